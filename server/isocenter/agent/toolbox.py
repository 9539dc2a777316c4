"""The tools an agent gets and the clients behind them: every API of ours, or one specification given at run time."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isocenter.agent.jobs import Jobs
from isocenter.core import ApiClient, Contract, Credentials, InvalidSpec, StorageError
from isocenter.core.tool import Tool, curated, derived
from isocenter.settings import SPEC, ApiSettings, Settings, address

if TYPE_CHECKING:
    from isocenter.core.http import Transport

log = logging.getLogger("isocenter.spec")


@dataclass
class Toolbox:
    """`tools` by name, `clients` by API, `instructions` for the server's usage map."""

    settings: Settings
    tools: dict[str, Tool] = field(default_factory=dict)
    clients: dict[str, ApiClient] = field(default_factory=dict)
    instructions: list[str] = field(default_factory=list)
    transport: Transport | None = None
    confined: bool = False  # results are written below the download folder only
    discover: bool = False  # offer three tools that find, describe and call the others
    jobs: Jobs = field(default_factory=Jobs)  # work that outlives the call that began it
    caller: str = ""  # who this view is for, as logs may name them
    on_missing: str = ""  # what else to do about credentials that are missing

    def client(self, tool: Tool) -> ApiClient:
        """The client a tool's call goes through."""
        return self.clients[tool.operation.contract.name]

    def hide(self, text: str) -> str:
        """`text` without any configured or obtained secret of any API."""
        for client in self.clients.values():
            text = client.credentials.hide(text)
        return text

    def place(self, wanted: str) -> Path:
        """The folder or file a caller names for results; from afar, one below the download folder. Raises StorageError."""
        try:
            if not self.confined:
                return Path(wanted).expanduser()
            own = self.settings.download_dir.resolve()
            path = (own / wanted).resolve()
        except (OSError, ValueError, RuntimeError):
            raise StorageError("The folder for results cannot be used. Nothing was sent.") from None
        if not path.is_relative_to(own):
            raise StorageError("Results go below your own download folder: give a relative path. Nothing was sent.")
        return path

    def view(
        self, settings: Settings, credentials: Mapping[str, Mapping[str, str]], caller: str = "", on_missing: str = ""
    ) -> Toolbox:
        """The same tools for one call of one caller: other settings, and for the APIs named the caller's credentials only.

        Secrets that services hand out in this call are gone with the view. Raises BadConfiguration where the caller's credentials
        would cross a network in the open.
        """
        view = replace(self, settings=settings, clients={}, confined=True, caller=caller, on_missing=on_missing)
        for api, client in self.clients.items():
            own = credentials.get(api)
            if own:
                address(client.base_url, f"[{api}] base_url", secrets=True)
            view.clients[api] = ApiClient(
                client.contract,
                base_url=client.base_url,
                credentials=Credentials(own, lasting=False) if own else client.credentials.for_one_call(),
                transport=self._shared,
                checks=client.checks,
                limits=client.limits,
                roots=settings.roots,
            )
        return view

    def point(self, base_urls: Mapping[str, str], credentials: Mapping[str, Mapping[str, str]]) -> None:
        """Send all APIs elsewhere: to the sandbox, once it runs."""
        for api, client in self.clients.items():
            client.base_url = base_urls.get(api, client.base_url).rstrip("/")
            for name, value in credentials.get(api, {}).items():
                client.credentials.keep(name, value)

    async def aclose(self) -> None:
        """End the jobs and close the shared connections."""
        await self.jobs.aclose()
        if self.transport:
            await self.transport.aclose()

    def _shared(self) -> Transport:
        """The connections of all clients, opened (and their library imported) with the first request of any."""
        if self.transport is None:
            from isocenter.core.http import open_transport

            self.transport = open_transport()
        return self.transport

    def _add(self, contract: Contract, tools: Iterable[Tool], settings: ApiSettings) -> None:
        self.clients[contract.name] = ApiClient(
            contract,
            base_url=settings.base_url,
            credentials=settings.credentials,
            transport=self._shared,
            checks=self.settings.checks_of(contract.name),
            roots=self.settings.roots,
        )
        for tool in tools:
            if not (self.settings.read_only and tool.effect != "read"):
                self.tools[tool.name] = tool


def own_apis(settings: Settings, toolsets: Iterable[str] = ("all",)) -> Toolbox:
    """The curated tools of our APIs: `all`, `default`, or API names. Raises KeyError for an unknown toolset."""
    import isocenter_clients

    chosen = list(toolsets)
    toolbox = Toolbox(settings)
    for name in chosen:
        if name not in ("all", "default", *isocenter_clients.APIS):
            raise KeyError(name)
    for api in isocenter_clients.APIS:
        if not {"all", "default", api} & set(chosen):
            continue
        contract, table = isocenter_clients.contract(api), isocenter_clients.tools(api)
        tools = curated(contract, table, f"{api}.tools.yaml")
        if not {"all", api} & set(chosen):
            tools = [tool for tool in tools if tool.default]
        toolbox._add(contract, tools, settings.api(api))
        if table.get("instructions"):
            toolbox.instructions.append(" ".join(str(table["instructions"]).split()))
    return toolbox


def one_spec(
    settings: Settings, document: dict[str, Any], file: Path, base_url: str, credentials: Mapping[str, str]
) -> Toolbox:
    """Tools derived from any OpenAPI 3.0/3.1 document, which is the API `spec` in the configuration.

    What of the document cannot be used is left out and logged. Raises InvalidSpec when nothing is left or no address is known.
    """
    contract = Contract(document, name=SPEC, file=file.name, skip=True)
    for note in contract.notes:
        log.warning("%s: %s", file.name, note)
    if not contract.operations:
        raise InvalidSpec([f"{file.name}: no operation that can be used", *contract.notes])
    here = settings.api(SPEC)
    base_url = base_url or here.base_url or contract.base_url
    if not re.match(r"https?://[^/\s]+", base_url):
        raise InvalidSpec([f"{file.name}#/servers: no address that starts with http:// or https://; give --base-url"])
    for name, value in credentials.items():
        here.credentials.keep(name, value)
    base_url = address(base_url, f"{file.name}: the base URL", secrets=bool(here.credentials))
    toolbox = Toolbox(settings)
    toolbox._add(contract, derived(contract), ApiSettings(base_url, here.credentials))
    toolbox.instructions.append(f"Operations of {contract.title}.")
    return toolbox
