"""The contract of The Cancer Imaging Archive (NBIA v4), loaded once from the JSON beside this file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from isocenter.core import Contract


@cache
def load() -> Contract:
    """The compiled contract. Cheap to call again."""
    return Contract.loads(files(__package__).joinpath("contract.json").read_bytes())
