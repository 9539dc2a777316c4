"""What a call gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from isocenter.core.findings import Finding

if TYPE_CHECKING:
    from isocenter.core.operation import Operation

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SavedFile:
    """A binary answer on disk: where, how many bytes, their SHA-256, and what the bytes are (a media type)."""

    path: Path
    size: int
    sha256: str
    media_type: str


@dataclass(slots=True)
class Result(Generic[T]):
    """A checked answer.

    `data` is the judged JSON (or text) itself; `value` is the same as pydantic models, built when first asked for. `file` is set
    instead when the answer is binary. `findings` holds what the check found: drift always, breaking ones only in `report` mode.
    """

    operation: Operation
    status: int
    media_type: str
    data: Any = field(repr=False)  # may hold tokens and people
    findings: tuple[Finding, ...] = ()
    file: SavedFile | None = None
    headers: dict[str, str] | None = field(default=None, repr=False)
    seconds: float = 0.0
    build: Callable[[Any, int], T] | None = None

    @property
    def value(self) -> T:
        """The answer as the typed models of the generated client. Raises pydantic.ValidationError where a reported break prevents it."""
        return self.build(self.data, self.status) if self.build else cast("T", self.data)

    @property
    def breaking(self) -> tuple[Finding, ...]:
        """Findings that contradict the specification."""
        return tuple(finding for finding in self.findings if finding.severity == "breaking")

    @property
    def drift(self) -> tuple[Finding, ...]:
        """Additions the specification does not know yet: new fields, new values of open vocabularies."""
        return tuple(finding for finding in self.findings if finding.severity == "drift")
