"""Everything a call can fail with.

IsocenterError
├── InvalidRequest       the caller's arguments break the contract; nothing was sent
├── MissingCredentials   the operation needs a credential that is not configured; nothing was sent
├── Declined             a person, or the operator's policy, said no; nothing was sent
├── TransportError       no complete answer arrived
├── StorageError         the answer could not be stored on disk
├── StatusError          the service answered with an error
├── ContractViolation    the service answered, but not as its specification says
└── InvalidSpec          a specification cannot be read or expressed

`code` is stable and meant for programs, `str(error)` is one repairable sentence or a short list, `retryable` says whether the same
call may succeed later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isocenter.core.findings import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isocenter.core.findings import Finding
    from isocenter.core.operation import Operation
    from isocenter.core.result import Result


class IsocenterError(Exception):
    """Base of all errors raised on purpose."""

    code = "error"
    retryable = False


class InvalidRequest(IsocenterError):
    """The arguments break the contract. `findings` lists every problem at once; nothing reached the network."""

    code = "invalid_request"

    def __init__(self, operation: Operation, findings: Sequence[Finding]) -> None:
        self.operation = operation
        self.findings = tuple(findings)
        count = "1 problem" if len(self.findings) == 1 else f"{len(self.findings)} problems"
        super().__init__(f"{operation.id}: {count}, nothing was sent.\n{listed(self.findings)}")


class MissingCredentials(IsocenterError):
    """No configured credential satisfies the operation's security requirement."""

    code = "missing_credentials"


class Declined(IsocenterError):
    """The call needs a person's yes and did not get it."""

    code = "declined"


class TransportError(IsocenterError):
    """No complete answer arrived: refused connection, timeout, cut body, or an answer over the size limit."""

    code = "transport"

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class StorageError(IsocenterError):
    """The answer arrived but could not be written: no space, no permission, or a file of that name that must not be replaced."""

    code = "storage"


class StatusError(IsocenterError):
    """The service answered with an error status. `result` holds the checked answer, `findings` what was odd about it."""

    code = "status"

    def __init__(self, message: str, result: Result[Any]) -> None:
        super().__init__(message)
        self.result = result
        self.status = result.status
        self.findings = result.findings
        self.retryable = result.status in (408, 429, 500, 502, 503, 504)


class ContractViolation(IsocenterError):
    """The answer breaks the specification. `result` keeps the evidence, data included; `findings` say what and where."""

    code = "contract_violation"

    def __init__(self, message: str, result: Result[Any]) -> None:
        super().__init__(message)
        self.result = result
        self.findings = result.breaking


class InvalidSpec(IsocenterError):
    """A specification, or a tools file beside it, that cannot be read or expressed. `problems` name file and JSON pointer."""

    code = "invalid_spec"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))
