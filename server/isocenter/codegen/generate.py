"""`isocenter generate`: from specifications to a package of typed clients. Everything is rendered in memory, then compared or written."""

from __future__ import annotations

import difflib
import keyword
import re
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from isocenter.codegen.models import Types, class_name, prose, snake
from isocenter.codegen.spec import read, read_spec
from isocenter.core.contract import Contract
from isocenter.core.errors import InvalidSpec
from isocenter.core.operation import Operation
from isocenter.core.tool import curated

Files = dict[str, bytes]

CONTRACT_PY = '''"""The contract of {title}, loaded once from the JSON beside this file."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from isocenter.core import Contract


@cache
def load() -> Contract:
    """The compiled contract. Cheap to call again."""
    return Contract.loads(files(__package__).joinpath("contract.json").read_bytes())
'''

API_PY = '''"""{title}: models, contract and clients, generated from {source}.

The clients are imported when first asked for: whoever needs only the contract pays for no models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import {name}Client, {name}SyncClient

__all__ = ["{name}Client", "{name}SyncClient"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import client

        return getattr(client, name)
    raise AttributeError(f"module {{__name__!r}} has no attribute {{name!r}}")
'''

PACKAGE_PY = '''"""Typed clients of every API described in openapi/. Generated: delete this folder and `isocenter generate` brings it back.

Import the client you need from its module, `isocenter_clients.<api>`; this module only knows what there is, and loads no models.
"""

from __future__ import annotations

from importlib import import_module
from importlib.resources import files
from typing import Any, cast

from isocenter.core import Contract

APIS: dict[str, str] = {{
{apis}}}
"""API name to module."""


def contract(api: str) -> Contract:
    """The contract of one API. Raises KeyError for an unknown name."""
    return cast("Contract", import_module(f"{{__name__}}.{{APIS[api]}}.contract").load())


def tools(api: str) -> dict[str, Any]:
    """The curated tools file of one API: toolset, instructions, tools."""
    import msgspec

    content = files(__name__).joinpath(APIS[api], "tools.json").read_bytes()
    return cast("dict[str, Any]", msgspec.json.decode(content))
'''


def module_name(api: str) -> str:
    """An API's name as a module."""
    name = re.sub(r"[^a-z0-9]+", "_", api.lower()).strip("_")
    return name if name.isidentifier() and not keyword.iskeyword(name) else f"api_{name}"


def render_api(contract: Contract, source: str, table: Mapping[str, Any] | None) -> Files:
    """The files of one API's package. Raises InvalidSpec naming what cannot be expressed."""
    types = Types(contract)
    try:
        models = types.models_source()
    except Exception as error:  # the generator's own refusals: no common base class
        raise InvalidSpec([f"{contract.file}#/components/schemas: no models can be made: {error}"]) from error
    name = class_name(contract.name)
    environment = jinja2.Environment(  # noqa: S701  # it writes Python, not HTML
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
    )
    title, source = prose(contract.title), prose(source)
    taken = {"client", "contract", "close", "aclose"}  # what the base classes call their own
    client = environment.get_template("client.py.jinja").render(
        title=title,
        source=source,
        name=name,
        operations=[_described(operation, types, taken) for operation in contract.operations.values()],
    )
    result: Files = {
        "__init__.py": API_PY.format(title=title, source=source, name=name).encode(),
        "client.py": _tidy(client).encode(),
        "models.py": models.encode(),
        "contract.py": CONTRACT_PY.format(title=title).encode(),
        "contract.json": msgspec.json.format(
            msgspec.json.encode(contract.document, order="deterministic" if table is None else None), indent=1
        ),
    }
    if table is not None:
        curated(contract, table, f"{contract.name}.tools.yaml")
        result["tools.json"] = msgspec.json.format(msgspec.json.encode(table), indent=1)
    return result


def _tidy(source: str) -> str:
    return re.sub(r"\n{4,}", "\n\n\n", re.sub(r"[ \t]+\n", "\n", source)).rstrip() + "\n"


def _described(operation: Operation, types: Types, methods: set[str]) -> dict[str, Any]:
    """What the template needs to know of an operation; `methods` collects the names that are taken."""
    arguments, nullable, documented = [], [], []
    taken = {"content_type"} if len(operation.body_types) > 1 else set[str]()
    ordered = sorted(operation.arguments.values(), key=lambda argument: not argument.required)
    for argument in ordered:
        kind, may_be_null = types.argument(argument)
        name = _free(snake(argument.name), taken)
        if may_be_null:
            nullable.append(argument.name)
        if argument.required:
            declared = f"{kind} | None" if may_be_null else kind
        else:
            declared = (
                f"{kind} | None | Unset = UNSET"
                if may_be_null
                else f"{kind} | None = None"
                if kind != "Any"
                else "Any = None"
            )
        arguments.append({"name": name, "wire": argument.name, "type": declared})
        if argument.description:
            text = f"{name}: {prose(argument.description)}"
            documented += textwrap.wrap(text, 112, initial_indent=" " * 12, subsequent_indent=" " * 16)
    if len(operation.body_types) > 1:
        choices = ", ".join(repr(kind) for kind in operation.body_types)
        arguments.append({"name": "content_type", "wire": "content_type", "type": f"Literal[{choices}] | None = None"})
    paragraphs = [
        textwrap.fill(prose(part), 112, initial_indent=" " * 8, subsequent_indent=" " * 8)
        for part in operation.description.strip().split("\n\n")
        if part.strip()
    ]
    name = _free(snake(operation.id), methods)
    return {
        "id": operation.id,
        "name": name,
        "summary": prose(operation.summary or f"{operation.method} {operation.path}").rstrip(".") + ".",
        "description": "\n\n".join(paragraphs),
        "documented": documented,
        "arguments": arguments,
        "nullable": tuple(nullable),
        "returns": types.returns(operation),
        "statuses": {repr(status): kind for status, kind in types.statuses(operation).items()},
        "shape": f"_{name.upper()}",
        "binary": operation.has_binary_answer,
        "extra": operation.body_extra,
    }


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def render_all(openapi: Path) -> Files:
    """Every file of the `isocenter_clients` package for the specifications in a folder, by relative path."""
    result: Files = {"py.typed": b""}
    apis: list[tuple[str, str]] = []
    problems: list[str] = []
    for path in sorted(openapi.glob("*.yaml")):
        if path.name.endswith(".tools.yaml"):
            continue
        try:
            contract = Contract(read_spec(path), file=path.name)
            tools = path.with_name(f"{path.stem}.tools.yaml")
            if not tools.exists():
                raise InvalidSpec([f"{path}: its tools file {tools.name} is missing"])
            rendered = render_api(contract, f"openapi/{path.name}", read(tools))
        except InvalidSpec as error:
            problems += error.problems
            continue
        apis.append((contract.name, module_name(contract.name)))
        result |= {f"{module_name(contract.name)}/{name}": content for name, content in rendered.items()}
    if problems:
        raise InvalidSpec(problems)
    entries = "".join(f'    "{api}": "{module}",\n' for api, module in apis)
    result["__init__.py"] = PACKAGE_PY.format(apis=entries).encode()
    return result


def render_stranger(spec: Path) -> tuple[str, Files]:
    """`(package name, files)` for any OpenAPI 3.0/3.1 document; operations become a typed client, nothing is curated."""
    contract = Contract(read_spec(spec), file=spec.name)
    rendered = render_api(contract, spec.name, None)
    return module_name(contract.name), {**rendered, "py.typed": b""}


def differences(wanted: Files, folder: Path) -> list[str]:
    """What is not current below `folder`, as unified diffs and notes; files nobody asks for count too."""
    found = []
    present = (
        {
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        if folder.exists()
        else set()
    )
    for name in sorted(wanted.keys() | present):
        have = (folder / name).read_bytes() if name in present else None
        if have == wanted.get(name):
            continue
        if have is None:
            found.append(f"{name}: missing")
        elif name not in wanted:
            found.append(f"{name}: left over, nothing generates it")
        else:
            diff = difflib.unified_diff(
                have.decode().splitlines(),
                wanted[name].decode().splitlines(),
                f"a/{name}",
                f"b/{name}",
                lineterm="",
                n=1,
            )
            found.append("\n".join(list(diff)[:40]))
    return found


def write(wanted: Files, folder: Path, *, remove_others: bool) -> list[str]:
    """Bring `folder` up to date and say what changed. Unchanged files are not touched."""
    changed = []
    for name, content in wanted.items():
        path = folder / name
        if path.exists() and path.read_bytes() == content:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        changed.append(name)
    if remove_others:
        changed += _remove_orphans(wanted, folder)
    return changed


def _remove_orphans(wanted: Iterable[str], folder: Path) -> list[str]:
    keep = set(wanted)
    packages = {folder / Path(name).parent for name in keep}
    removed = []
    for path in sorted(folder.rglob("*"), reverse=True):
        name = str(path.relative_to(folder))
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.parent.name == "__pycache__":  # goes with its package
            if path.parent.parent not in packages:
                path.unlink()
        elif path.is_file() and name not in keep:
            path.unlink()
            removed.append(name)
    return removed
