"""What is shipped, who may import whom, and what starting up costs."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import types
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import isocenter
import isocenter.core
import isocenter_clients

ROOT = Path(__file__).parent.parent
SOURCES = {"isocenter": ROOT / "server", "isocenter_clients": ROOT / "generated"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def python(*arguments: str) -> str:
    """Standard output of a fresh interpreter."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout


# -- the wheel -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel. Building needs hatchling from the package index."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode and re.search(r"No matching distribution found for hatchling", built.stderr):
        pytest.skip("the package index cannot be reached, so hatchling cannot be had")
    assert built.returncode == 0, built.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_both_packages_whole_and_nothing_else(wheel: Path) -> None:
    sources = {
        path.relative_to(root).as_posix()
        for package, root in SOURCES.items()
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    shipped = set(zipfile.ZipFile(wheel).namelist())

    assert {name for name in shipped if ".dist-info/" not in name} == sources
    assert {name.partition("/")[0] for name in shipped} == {*SOURCES, f"isocenter-{isocenter.__version__}.dist-info"}


def test_the_wheel_holds_what_is_no_python(wheel: Path) -> None:
    shipped = set(zipfile.ZipFile(wheel).namelist())

    assert {"isocenter/py.typed", "isocenter_clients/py.typed", "isocenter/codegen/client.py.jinja"} <= shipped
    for module in isocenter_clients.APIS.values():
        assert {f"isocenter_clients/{module}/{name}" for name in ("contract.json", "tools.json")} <= shipped


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    info = f"isocenter-{isocenter.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
        scripts = archive.read(f"{info}/entry_points.txt").decode()
        licence = archive.read(f"{info}/licenses/LICENSE")

    assert (metadata["Name"], metadata["Version"]) == ("isocenter", isocenter.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert licence == (ROOT / "LICENSE").read_bytes()
    assert "isocenter = isocenter.cli:main" in scripts


def test_what_is_shipped_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = """
import sys
sys.path.insert(0, sys.argv[1])
import isocenter, isocenter_clients
from pathlib import Path
from isocenter.codegen.generate import render_stranger
assert isocenter.__file__.startswith(sys.argv[1]) and isocenter_clients.__file__.startswith(sys.argv[1])
for api in isocenter_clients.APIS:
    isocenter_clients.contract(api).compile()
    assert isocenter_clients.tools(api)["tools"]
print(render_stranger(Path(sys.argv[2]))[0])
"""
    spec = ROOT / "tests" / "specs" / "minirad.yaml"

    assert python("-P", "-c", code, str(tmp_path / "installed"), str(spec)).strip() == "minirad"


# -- names and versions ----------------------------------------------------------------------------------------------


def test_every_public_name_of_the_core_is_meant() -> None:
    public = {
        name
        for name, value in vars(isocenter.core).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }

    assert public == set(isocenter.core.__all__)
    assert isocenter.core.__all__ == sorted(isocenter.core.__all__)


def test_the_tests_run_with_versions_the_project_asks_for() -> None:
    wanted = [Requirement(text) for text in PROJECT["dependencies"]]
    installed = {requirement: importlib.metadata.version(requirement.name) for requirement in wanted}

    assert [f"{need} but {have}" for need, have in installed.items() if not need.specifier.contains(have)] == []


# -- layers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One import: who, whom, and when: at the start, later in a function, perhaps (if it is there), or only for type checkers."""

    module: str
    target: str
    when: str


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package, root in SOURCES.items():
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> list[Import]:
    return [found for module, path in modules().items() for found in _imports(module, path)]


def _imports(module: str, path: Path) -> Iterator[Import]:
    def visit(node: ast.AST, when: str) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module if path.name == "__init__.py" else module.rpartition(".")[0]
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(module, inner if inner in modules() else base, when)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            when = "later" if when == "start" else when
        elif isinstance(node, ast.Try) and any(
            "ImportError" in ast.unparse(each.type or node) for each in node.handlers
        ):
            when = "perhaps"
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            when = "types"
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            for child in ast.iter_child_nodes(node):
                yield from visit(child, when)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), "start")


def within(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def ours(*packages: str) -> list[Import]:
    """Imports of our own modules made in some packages."""
    return [found for found in imports() if within(found.module, *packages) and within(found.target, *SOURCES)]


def test_the_imports_are_seen() -> None:
    assert Import("isocenter.core.operation", "isocenter.core.wire", "start") in imports()
    assert Import("isocenter.core.operation", "isocenter.core.contract", "types") in imports()
    assert Import("isocenter.cli", "isocenter.demo", "later") in imports()
    assert Import("isocenter_clients.tcia.client", "isocenter_clients.tcia.models", "start") in imports()


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("isocenter.core", ["isocenter.core"]),
        ("isocenter.settings", ["isocenter.core"]),
        ("isocenter.codegen", ["isocenter.core", "isocenter.codegen"]),
        ("isocenter_clients", ["isocenter.core", "isocenter_clients"]),
        (
            "isocenter.sandbox",
            ["isocenter.core", "isocenter.sandbox", "isocenter.imaging", "isocenter_clients"],
        ),
        (
            "isocenter.agent",
            [
                *("isocenter.core", "isocenter.agent", "isocenter.settings", "isocenter.imaging", "isocenter.transfer"),
                "isocenter_clients",
            ],
        ),
        ("isocenter.transfer", ["isocenter.core", "isocenter.transfer", "isocenter.settings", "isocenter_clients"]),
    ],
)
def test_a_layer_knows_only_those_below_it(package: str, allowed: list[str]) -> None:
    exceptions = {Import("isocenter.agent.embedded", "isocenter.sandbox.app", "later")}

    found = [
        each
        for each in ours(package)
        if not within(each.target, *allowed) and each.target != "isocenter" and each not in exceptions
    ]

    assert found == []


def test_every_library_that_is_used_is_asked_for() -> None:
    extras = PROJECT["optional-dependencies"]
    texts = [*PROJECT["dependencies"], *extras["codecs"], *extras["queue"]]
    declared = {canonicalize_name(Requirement(text).name) for text in texts}
    homes = importlib.metadata.packages_distributions()
    needed = {each.target.partition(".")[0] for each in imports() if each.when != "perhaps"}
    used = needed - sys.stdlib_module_names - {*SOURCES}

    assert {name for name in used if not {canonicalize_name(home) for home in homes.get(name, [])} & declared} == set()


def test_every_library_that_is_asked_for_is_used() -> None:
    used = {each.target.partition(".")[0] for each in imports()}
    homes = importlib.metadata.packages_distributions()
    provided = {canonicalize_name(home) for name in used for home in homes.get(name, [])}

    assert {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]} - provided == set()


def test_generated_code_needs_little() -> None:
    stdlib = sys.stdlib_module_names
    outside = {
        each.target.partition(".")[0]
        for each in imports()
        if within(each.module, "isocenter_clients") and each.target.partition(".")[0] not in stdlib
    }

    assert outside == {"isocenter", "isocenter_clients", "pydantic", "msgspec"}


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        (
            "mcp",
            [
                "isocenter.agent.discover",
                "isocenter.agent.http",
                "isocenter.agent.server",
                "isocenter.agent.stdio",
                "isocenter.demo",
            ],
        ),
        ("httpx", ["isocenter.core", "isocenter.demo", "isocenter.doctor"]),
        ("aiohttp", ["isocenter.core.http"]),
        ("starlette", ["isocenter.agent.http", "isocenter.sandbox"]),
        ("uvicorn", ["isocenter.agent.http", "isocenter.sandbox"]),
        ("yaml", ["isocenter.codegen.spec"]),
        ("jinja2", ["isocenter.codegen.generate"]),
    ],
)
def test_a_library_is_used_in_its_own_place(library: str, homes: list[str]) -> None:
    users = {each.module for each in imports() if within(each.target, library)}

    assert users
    assert {user for user in users if not within(user, *homes)} == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    needs: dict[str, set[str]] = {name: set() for name in modules()}
    for each in imports():
        if each.when == "start" and each.target in needs and not within(each.module, each.target):
            needs[each.module].add(each.target)

    while leaves := {name for name, below in needs.items() if not below}:
        needs = {name: below - leaves for name, below in needs.items() if name not in leaves}

    assert needs == {}


# -- starting up -----------------------------------------------------------------------------------------------------


def loaded_by(code: str) -> set[str]:
    """The modules a fresh interpreter has imported after running some code."""
    return set(python("-P", "-c", f"{code}\nimport sys; print(*sys.modules)").splitlines()[-1].split())


def test_reading_a_contract_loads_no_models_and_no_heavy_library() -> None:
    loaded = loaded_by("import isocenter_clients as c\nfor api in c.APIS: c.contract(api); c.tools(api)")

    assert "isocenter_clients.tcia.contract" in loaded
    assert not loaded & {"pydantic", "mcp", "pydicom", "yaml", "numpy", "jsonschema_rs", "starlette"}
    assert not [name for name in loaded if re.fullmatch(r"isocenter_clients\.\w+\.(models|client)", name)]


def test_asking_for_the_version_loads_no_library_but_the_command_lines_own() -> None:
    code = (
        "import sys\nsys.argv[1:] = ['--version']\nfrom isocenter.cli import main\ntry: main()\nexcept SystemExit: pass"
    )

    loaded = loaded_by(code)

    assert "typer" in loaded
    assert not loaded & {
        *("aiohttp", "anyio", "datamodel_code_generator", "highdicom", "httpx", "jinja2", "jsonschema_rs", "mcp"),
        *("msgspec", "numpy", "orjson", "PIL", "pydantic", "pydicom", "starlette", "uvicorn", "yaml"),
    }


def test_the_version_is_told() -> None:
    assert python("-P", "-m", "isocenter", "--version") == f"isocenter {isocenter.__version__}\n"
