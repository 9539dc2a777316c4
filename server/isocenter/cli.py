"""The command line. Each command imports what it needs when it runs, so that none waits for the others' libraries."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isocenter import __version__, cli_pipeline, cli_transfer
from isocenter.cli_transfer import Config, client_of, load_settings

if TYPE_CHECKING:
    from isocenter.agent.toolbox import Toolbox
    from isocenter.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Medical-imaging APIs as checked MCP tools and typed clients, with a sandbox that behaves like the real services.",
)

app.add_typer(cli_transfer.app)
app.add_typer(cli_pipeline.app)

Data = Annotated[Path | None, typer.Option("--data", help="Data directory of the sandbox.", show_default=False)]


def main() -> None:
    """Entry point: an expected failure is one message and exit code 1, never a traceback."""
    try:
        _asked_for(next(iter(sys.argv[1:]), ""))()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:
        from isocenter.core.errors import IsocenterError

        if not isinstance(error, IsocenterError):
            raise
        typer.echo(f"isocenter: {error}", err=True)
        raise SystemExit(1) from None


def _asked_for(name: str) -> typer.Typer:
    """The command line with only the command that is asked for: making all of them costs a host that starts a server 40 ms."""
    commands = [each for each in app.registered_commands if each.callback and each.callback.__name__ == name]
    if not commands:
        return app
    reduced = copy(app)
    reduced.registered_commands, reduced.registered_groups = commands, []
    return reduced


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"isocenter {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options before the command."""


def default_data() -> Path:
    """Where the sandbox keeps its state unless told otherwise."""
    base = os.environ.get("XDG_DATA_HOME") or (os.environ.get("LOCALAPPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".local" / "share") / "isocenter" / "sandbox"


def _find_openapi() -> Path:
    """The `openapi` folder of the checkout we are in or below."""
    from isocenter.core.errors import InvalidSpec

    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "openapi").is_dir() and (folder / "pyproject.toml").exists():
            return folder / "openapi"
    raise InvalidSpec(
        ["No openapi/ folder here: run this inside a checkout of Isocenter, or give --spec FILE --out DIR."]
    )


@app.command()
def generate(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail when generated files are not current.")
    ] = False,
    spec: Annotated[
        Path | None, typer.Option(help="Any OpenAPI 3.0/3.1 file instead of our own.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the package made from --spec.", show_default=False)
    ] = None,
) -> None:
    """Write models, contracts and typed clients from the specifications."""
    from isocenter.codegen import generate as codegen

    if (spec is None) != (out is None):
        raise typer.BadParameter("--spec and --out go together")
    if spec and out:
        name, wanted = codegen.render_stranger(spec)
        folder = out / name
    else:
        openapi = _find_openapi()
        wanted = codegen.render_all(openapi)
        folder = openapi.parent / "generated" / "isocenter_clients"
    if check:
        stale = codegen.differences(wanted, folder)
        for difference in stale:
            typer.echo(difference)
        typer.echo(
            f"{len(stale)} files are not current; run isocenter generate"
            if stale
            else f"{len(wanted)} files are current"
        )
        raise typer.Exit(1 if stale else 0)
    changed = codegen.write(wanted, folder, remove_others=spec is None)
    typer.echo(f"{folder}: {len(changed)} of {len(wanted)} files changed")


@app.command()
def lint() -> None:
    """Check the specifications: OpenAPI 3.1, our dialect, every example."""
    from isocenter.codegen.lint import lint as run

    openapi = _find_openapi()
    problems = run(openapi)
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"{len(problems)} problems" if problems else "no problems")
    raise typer.Exit(1 if problems else 0)


@app.command()
def serve(
    config: Config = None,
    http: Annotated[bool, typer.Option("--http", help="Serve streamable HTTP instead of standard streams.")] = False,
    host: Annotated[str, typer.Option(help="With --http: address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="With --http: port to listen on, 0 for a free one.")
    ] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="With --http: number of processes.")] = 1,
    issuer: Annotated[
        str, typer.Option(help="With --http: ask for tokens of this authorization server.", show_default=False)
    ] = "",
    audience: Annotated[
        str, typer.Option(help="With --http: whom tokens must be made for; the URL if left out.", show_default=False)
    ] = "",
    keys: Annotated[
        str,
        typer.Option(help="With --http: JWKS (URL or file) or PEM file tokens are checked with.", show_default=False),
    ] = "",
    insecure: Annotated[
        bool, typer.Option("--insecure", help="With --http: let others in without asking who they are.")
    ] = False,
    sessions: Annotated[
        bool,
        typer.Option(
            "--sessions",
            help="With --http: keep sessions, in which clients of the older protocol can ask their person.",
        ),
    ] = False,
    toolset: Annotated[str, typer.Option(help="all, default, or API names separated by commas.")] = "default",
    discover: Annotated[
        bool, typer.Option("--discover", help="Offer three tools that find, describe and call all others.")
    ] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Offer only tools that change nothing.")] = False,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Run the sandbox in this process and use it for everything.")
    ] = False,
    data: Data = None,
    spec: Annotated[
        Path | None, typer.Option(help="Serve any OpenAPI 3.0/3.1 file instead of our APIs.", show_default=False)
    ] = None,
    base_url: Annotated[
        str, typer.Option(help="Where the API of --spec is; its first server if left out.", show_default=False)
    ] = "",
    download_dir: Annotated[Path | None, typer.Option(help="Where files of answers go.", show_default=False)] = None,
    allow: Annotated[str, typer.Option(help="Effects that need no question: send, destroy.", show_default=False)] = "",
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every call to standard error.")] = False,
) -> None:
    """Serve MCP over standard input and output, or over HTTP."""
    import asyncio
    import gc
    from dataclasses import replace
    from functools import partial

    _log_to_stderr(verbose)
    settings = load_settings(config)
    effects = frozenset(part.strip() for part in allow.split(",") if part.strip())
    if effects - {"send", "destroy"}:
        raise typer.BadParameter("--allow knows send and destroy")
    settings = replace(
        settings,
        read_only=settings.read_only or read_only,
        download_dir=download_dir or settings.download_dir,
        allow=settings.allow | effects,
    )

    make = partial(_toolbox, settings, "all" if discover else toolset, spec, base_url, verbose, discover)
    if http:
        from isocenter.agent import http as over_http
        from isocenter.settings import with_tokens

        where = with_tokens(settings.http, issuer, audience, keys)
        home = (data or default_data()) if sandbox else None
        over_http.serve(make, where, host, port, workers=workers, insecure=insecure, sandbox=home, sessions=sessions)
        return
    if issuer or audience or keys or insecure or sessions or workers > 1:
        raise typer.BadParameter("--issuer, --audience, --keys, --insecure, --sessions and --workers go with --http")

    async def run() -> None:
        gc.disable()
        from isocenter.agent import server, stdio

        tools = make()
        if sandbox:
            from isocenter.agent.embedded import Embedded

            embedded = Embedded(tools, data or default_data())
            serving = server.build(tools, ready=embedded.ready, around=embedded.around)
        else:
            serving = server.build(tools)
        gc.freeze()  # all of it lives as long as the process: looking through it for garbage again and again costs more than the calls
        gc.enable()
        await stdio.serve_stdio(serving)

    asyncio.run(run())


def _toolbox(
    settings: Settings, toolset: str, spec: Path | None, base_url: str, verbose: bool, discover: bool
) -> Toolbox:
    """What `serve` offers, in whichever process it is built."""
    from isocenter.agent import toolbox

    _log_to_stderr(verbose)
    if spec:
        from isocenter.codegen.spec import read_spec

        tools = toolbox.one_spec(settings, read_spec(spec), spec, base_url, _spec_credentials())
    else:
        try:
            tools = toolbox.own_apis(settings, toolset.split(","))
        except KeyError as unknown:
            raise typer.BadParameter(f"unknown toolset {unknown.args[0]}") from None
    tools.discover = discover
    return tools


def _spec_credentials() -> dict[str, str]:
    """Credentials for --spec: `ISOCENTER_SPEC_<SCHEME>`, matched to the scheme's name without regard to case."""
    prefix = "ISOCENTER_SPEC_"
    return {name.removeprefix(prefix): value for name, value in os.environ.items() if name.startswith(prefix) and value}


def _log_to_stderr(verbose: bool) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )


@app.command()
def doctor(
    config: Config = None,
    data: Data = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no service whether it is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """Look at configuration, credentials, services, contracts and folders, and say what to do. Exit code 1: a problem."""
    import asyncio

    from isocenter.doctor import examine

    found = asyncio.run(examine(config, data or default_data(), os.environ, offline=offline))
    for finding in found:
        if as_json:
            typer.echo(json.dumps(finding.as_dict(), ensure_ascii=False))
        else:
            typer.echo(f"{finding.state:8} {finding.subject:24} {finding.what}")
            if finding.advice:
                typer.echo(f"{'':33} {finding.advice}")
    raise typer.Exit(1 if any(finding.state == "problem" for finding in found) else 0)


@app.command()
def tools(
    toolset: Annotated[str, typer.Option(help="all, default, or API names separated by commas.")] = "all",
) -> None:
    """List the tools an agent is offered: name, effect, operation (`workflow` for several), title."""
    from isocenter.agent.toolbox import own_apis
    from isocenter.agent.workflows import offered
    from isocenter.settings import Settings

    toolbox = own_apis(Settings(), toolset.split(","))
    for workflow in offered(toolbox).values():
        typer.echo(f"{workflow.name:36} {workflow.effect:8} {'workflow':37} {workflow.title}")
    for tool in toolbox.tools.values():
        typer.echo(f"{tool.name:36} {tool.effect:8} {tool.operation.contract.name}.{tool.operation.id:30} {tool.title}")


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8765,
    data: Data = None,
    dicom: Annotated[
        list[Path] | None,
        typer.Option(help="Serve this folder of DICOM files too; may be repeated.", show_default=False),
    ] = None,
    collection: Annotated[
        list[str] | None,
        typer.Option(help="Collection name of the --dicom folder at the same place.", show_default=False),
    ] = None,
    circus_world: Annotated[
        Path | None, typer.Option(help="CIRCUS users, projects and cases to start with (JSON).", show_default=False)
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Proper 4xx answers where the real CIRCUS has an accidental 500.")
    ] = False,
    compat: Annotated[
        str, typer.Option(help="`live` copies the quirks of the deployed DICOMaestro.", show_default=False)
    ] = "",
    fault: Annotated[
        list[str] | None, typer.Option(help="Start with a fault: service:fault, or fault for all.", show_default=False)
    ] = None,
) -> None:
    """Run the sandbox: all four services in one process, on synthetic data, reachable over HTTP."""
    from isocenter.sandbox.app import serve as run
    from isocenter.sandbox.state import DataDirectoryInUse, Options

    _log_to_stderr(verbose=False)
    folders, names = dicom or [], collection or []
    if len(names) > len(folders):
        raise typer.BadParameter("--collection needs a --dicom folder")
    if compat not in ("", "live"):
        raise typer.BadParameter("--compat knows only live")
    missing = [folder for folder in folders if not folder.is_dir()]
    if missing:
        raise typer.BadParameter(f"--dicom: {missing[0]} is no folder")
    options = Options(
        strict=strict,
        compat_live=compat == "live",
        circus_world=circus_world,
        dicom=tuple(
            (names[index] if index < len(names) else folder.resolve().name, folder)
            for index, folder in enumerate(folders)
        ),
        faults=tuple(fault or ()),
    )
    try:
        run(host, port, data or default_data(), options)
    except DataDirectoryInUse as error:
        typer.echo(f"isocenter: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for what is downloaded and rendered.")] = Path("isocenter-demo"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per step on standard output.")] = False,
) -> None:
    """Drive the whole journey on the sandbox, through a real MCP client."""
    import asyncio

    from isocenter.demo import run

    raise typer.Exit(asyncio.run(run(out, as_json)))


@app.command()
def call(
    api: Annotated[str, typer.Argument(help="API name, for example tcia.")],
    operation: Annotated[str, typer.Argument(help="Operation id, for example getSeries.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(help="name=value; JSON where the operation takes no text.")
    ] = None,
    config: Config = None,
    save_to: Annotated[
        Path | None, typer.Option(help="Folder or file for a binary answer.", show_default=False)
    ] = None,
) -> None:
    """Call one operation, checked both ways, and print its answer as JSON."""
    import anyio

    import isocenter_clients
    from isocenter.core import Result
    from isocenter.core.findings import did_you_mean

    if api not in isocenter_clients.APIS:
        raise typer.BadParameter(f"unknown API {api}. {did_you_mean(api, isocenter_clients.APIS)}".rstrip())
    contract, settings = isocenter_clients.contract(api), load_settings(config)
    if operation not in contract.operations:
        raise typer.BadParameter(
            f"{api} has no operation {operation}. {did_you_mean(operation, contract.operations)}".rstrip()
        )
    given = dict(_argument(text, contract.operations[operation].types) for text in arguments or ())

    async def run() -> None:
        async with client_of(settings, api) as client:
            result: Result[Any] = await client.call(operation, given, save_to=save_to or Path())
        answer: dict[str, Any] = {"status": result.status, "data": result.data}
        if result.file:
            answer = {
                "status": result.status,
                "file": {"path": str(result.file.path), "size": result.file.size, "sha256": result.file.sha256},
            }
        if result.findings:
            answer["findings"] = [finding.as_dict() for finding in result.findings]
        typer.echo(json.dumps(answer, ensure_ascii=False, indent=2))

    anyio.run(run)


def _argument(text: str, types: Callable[[str], tuple[str, ...]]) -> tuple[str, Any]:
    """`name=value` as the name and its value: text stays text, an identifier of digits too; the rest is JSON where it can be."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{name}: write name=value")
    if "string" in types(name):
        return name, value
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
