"""Contracts, checks and the one client loop. Knows HTTP and JSON Schema; knows nothing of MCP, the sandbox or the command line."""

from isocenter.core.api import AsyncApi, SyncApi
from isocenter.core.auth import Credentials
from isocenter.core.client import ApiClient, Checks, Limits
from isocenter.core.contract import Contract
from isocenter.core.errors import (
    ContractViolation,
    Declined,
    InvalidRequest,
    InvalidSpec,
    IsocenterError,
    MissingCredentials,
    StatusError,
    StorageError,
    TransportError,
)
from isocenter.core.files import FileSource
from isocenter.core.findings import Finding
from isocenter.core.operation import Operation
from isocenter.core.result import Result, SavedFile

__all__ = [
    "ApiClient",
    "AsyncApi",
    "Checks",
    "Contract",
    "ContractViolation",
    "Credentials",
    "Declined",
    "FileSource",
    "Finding",
    "InvalidRequest",
    "InvalidSpec",
    "IsocenterError",
    "Limits",
    "MissingCredentials",
    "Operation",
    "Result",
    "SavedFile",
    "StatusError",
    "StorageError",
    "SyncApi",
    "TransportError",
]
