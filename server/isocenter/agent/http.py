"""Streamable HTTP for many callers: stateless, so that any process of any machine may answer any request, unless sessions are wanted.

A caller is who its token says. It gets the tools its scopes allow, its own download folder, and, where its request headers bring
them (`X-Isocenter-<Api>-<Credential>`), its own credentials for the services, used for this one request and forgotten.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import jwt
import uvicorn
from mcp.server import ServerRequestContext
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware, get_access_token
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.routes import build_resource_metadata_url, create_protected_resource_routes
from mcp.server.request_state import RequestStateSecurity
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import (
    DEFAULT_MAX_REQUEST_BODY_SIZE,
    RequestBodyLimitMiddleware,
    TransportSecuritySettings,
)
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.supervisors import Multiprocess

from isocenter.agent.discover import CALL
from isocenter.agent.embedded import Embedded
from isocenter.agent.present import hands_out_credentials
from isocenter.agent.server import Callers, build
from isocenter.agent.toolbox import Toolbox
from isocenter.agent.workflows import Workflow, offered
from isocenter.core import IsocenterError
from isocenter.core.auth import credential_name
from isocenter.core.findings import did_you_mean
from isocenter.core.http import fetch
from isocenter.core.tool import Tool
from isocenter.settings import BadConfiguration, Http, is_loopback

log = logging.getLogger("isocenter.http")

PATH = "/mcp"
PREFIX = "x-isocenter-"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
KEYS_SECONDS = 600  # how long keys for tokens are used before they are looked up again
PATIENCE = 30  # seconds between two look-ups that tokens with unknown keys can cause
LEEWAY = 30  # seconds clocks may differ
GRACE = 10  # seconds running calls get at shutdown


class UnusableHeader(IsocenterError):
    """A request header that looks like a credential and is none; taking the operator's instead would be a surprise."""

    code = "invalid_request"


class Verifier:
    """Checks bearer tokens: JWTs of one issuer for one audience, signed by a key that is looked up and cached."""

    def __init__(self, http: Http, audience: str, *, patience: float = PATIENCE) -> None:
        self._http = http
        self._audience = audience
        self._patience = patience
        self._keys: list[dict[str, Any] | str] = []  # JWKs, or one PEM text
        self._looked = float("-inf")  # when, on the monotonic clock
        self._lock = anyio.Lock()

    async def verify_token(self, token: str) -> AccessToken | None:
        """The caller, or None for a token that opens nothing. Reasons go to the log, the token never."""
        try:
            head = jwt.get_unverified_header(token)
            algorithm, name = head.get("alg"), head.get("kid")
            if algorithm not in self._http.algorithms:
                raise jwt.InvalidAlgorithmError("its algorithm is not allowed")
            claims = await self._claims(token, algorithm, name)
            scopes = claims.get("scope") or claims.get("scp") or []
            return AccessToken(
                token="",  # nobody needs it any more
                client_id=str(claims.get("client_id") or claims.get("azp") or claims["sub"]),
                scopes=scopes.split() if isinstance(scopes, str) else [str(scope) for scope in scopes],
                subject=claims["sub"],
                claims={"iss": claims["iss"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            log.warning("a token was refused: %s", type(error).__name__)
            return None

    async def _claims(self, token: str, algorithm: str, name: Any) -> dict[str, Any]:
        keys = await self._matching(algorithm, name)
        for index, key in enumerate(keys):
            try:
                return jwt.decode(
                    token,
                    jwt.PyJWK(key, algorithm) if isinstance(key, dict) else key,
                    algorithms=[algorithm],
                    audience=self._audience,
                    issuer=self._http.issuer,
                    leeway=LEEWAY,
                    options={"require": ["exp", "iss", "aud", "sub"]},
                )
            except (jwt.InvalidSignatureError, jwt.InvalidKeyError):
                if index == len(keys) - 1:
                    raise
        raise jwt.InvalidKeyError("no key of that name")

    async def _matching(self, algorithm: str, name: Any) -> list[dict[str, Any] | str]:
        """Keys the token may be signed with; they are looked up when they are old, or when there is none for it."""

        def fits(key: dict[str, Any] | str) -> bool:
            return isinstance(key, str) or (
                key.get("kty") != "oct"
                and key.get("use", "sig") == "sig"
                and key.get("alg", algorithm) == algorithm
                and (name is None or key.get("kid", name) == name)
            )

        async with self._lock:
            age = time.monotonic() - self._looked
            if age > KEYS_SECONDS or (age >= self._patience and not any(map(fits, self._keys))):
                self._looked = time.monotonic()
                try:
                    self._keys = await self._look_up()
                except (OSError, ValueError) as error:  # the old keys go on until new ones are there
                    log.warning("the keys for tokens cannot be read: %s", type(error).__name__)
        return [key for key in self._keys if fits(key)]

    async def _look_up(self) -> list[dict[str, Any] | str]:
        if self._http.key_file:
            text = await anyio.Path(self._http.key_file).read_text(encoding="utf-8")
        else:
            text = await fetch(self._http.jwks_url)
        if text.lstrip().startswith("-----BEGIN"):
            return [text]
        document = json.loads(text)
        keys = document.get("keys") if isinstance(document, dict) else None
        if not isinstance(keys, list):
            raise ValueError("no JWKS")
        return [key for key in keys if isinstance(key, dict)]


class HttpCallers(Callers):
    """Tells callers apart by token and request headers."""

    def __init__(self, toolbox: Toolbox, http: Http) -> None:
        super().__init__(toolbox)
        self._http = http
        self._headers: dict[str, tuple[str, str]] = {}
        for api, client in toolbox.clients.items():
            contract = client.contract
            names = {credential_name(contract, scheme) for scheme in contract.security_schemes}
            for operation in contract.operations.values():
                names |= {argument.credential for argument in operation.arguments.values() if argument.credential}
            self._headers |= {header_name(api, name): (api, name) for name in names}

    def may_use(self, ctx: ServerRequestContext[Any], tool: Tool | Workflow) -> bool:
        """Whether the token has the scope for the tool's effect; everything where no tokens are asked for."""
        if not self._http.issuer:
            return True
        token = get_access_token()
        return token is not None and self._http.scopes[tool.effect] in token.scopes

    def toolbox(self, ctx: ServerRequestContext[Any]) -> Toolbox:
        """A view of the toolbox with this request's credentials and this caller's folder. Raises IsocenterError."""
        own: dict[str, dict[str, str]] = {}
        for name, value in ctx.request.headers.items() if ctx.request else ():
            if name.startswith(PREFIX):
                if name not in self._headers:
                    hint = did_you_mean(name, self._headers)
                    raise UnusableHeader(f"The request header {name[:80]} is no credential here. {hint}".rstrip())
                api, credential = self._headers[name]
                own.setdefault(api, {})[credential] = value
        settings = self.everything.settings
        caller = self._caller()
        folder = settings.download_dir / "callers" / caller
        return self.everything.view(
            replace(settings, download_dir=folder, roots=(*settings.roots, folder)),
            own,
            caller,
            "A person's own credentials go into request headers of the client, for example "
            f"{', '.join(sorted(self._headers)[:3])}.",
        )

    def _caller(self) -> str:
        """A name for the caller's folder that tells nothing about it."""
        token = get_access_token()
        if token is None:
            return "anonymous"
        who = json.dumps([(token.claims or {}).get("iss"), token.subject])
        return hashlib.sha256(who.encode()).hexdigest()[:32]


def header_name(api: str, credential: str) -> str:
    """The request header, in lower case, that brings a caller's own credential for an API."""
    return PREFIX + re.sub(r"[^a-z0-9]+", "-", f"{api}-{credential}".lower())


class _ScopeChallenge:
    """Answers a call of a tool beyond the token's scopes with 403 insufficient_scope, so that clients can ask for more."""

    def __init__(self, app: ASGIApp, scopes: Mapping[str, str], reading: str, metadata: AnyHttpUrl) -> None:
        self._app = app
        self._scopes = scopes  # by tool
        self._reading = reading  # of what is read without a tool
        self._metadata = metadata

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        missing = self._missing(body)
        if missing:
            challenge = f'Bearer error="insufficient_scope", scope="{missing}", resource_metadata="{self._metadata}"'
            answer = {"error": "insufficient_scope", "error_description": f"Required scope: {missing}"}
            await JSONResponse(answer, 403, {"WWW-Authenticate": challenge})(scope, receive, send)
            return
        unread = [body]

        async def replay() -> Message:
            if unread:
                return {"type": "http.request", "body": unread.pop(), "more_body": False}
            return await receive()

        await self._app(scope, replay, send)

    def _missing(self, body: bytes) -> str:
        """The scope the message needs and the token lacks."""
        wanted, token = "", get_access_token()
        with suppress(ValueError, AttributeError):  # no message: the SDK says what is wrong with it
            message = json.loads(body)
            params, method = message.get("params") or {}, message.get("method")
            if method in ("resources/read", "completion/complete"):
                wanted = self._reading
            elif method == "tools/call":
                name = params.get("name")
                if name == CALL:  # the operation that is meant stands inside
                    name = params.get("arguments", {}).get("name")
                wanted = self._scopes.get(str(name), "")
        return "" if token and wanted in token.scopes else wanted


@dataclass(frozen=True)
class Application:
    """All a process needs to serve; called there, it makes the ASGI application. `host` is what is listened on."""

    make: Callable[[], Toolbox]
    http: Http
    host: str
    sandbox: Path | None = None
    sessions: bool = False

    def __call__(self) -> Starlette:
        http, toolbox = self.http, self.make()
        # Over HTTP nothing is remembered from call to call: a secret that is neither shown nor kept would only be lost.
        toolbox.tools = {name: tool for name, tool in toolbox.tools.items() if not hands_out_credentials(tool)}
        embedded = Embedded(toolbox, self.sandbox) if self.sandbox else None
        security = RequestStateSecurity(keys=list(http.state_keys))
        over = partial(build, toolbox, callers=HttpCallers(toolbox, http), security=security)
        server = over(ready=embedded.ready, around=embedded.around) if embedded else over()
        security_settings = _security(http, self.host)
        manager = StreamableHTTPSessionManager(server, stateless=not self.sessions, security_settings=security_settings)
        # Without sessions there is nothing to stream on a GET and nothing to DELETE.
        methods = ["POST", "GET", "DELETE"] if self.sessions else ["POST"]
        endpoint: ASGIApp = StreamableHTTPASGIApp(manager)
        routes: list[Route] = []
        middleware: list[Middleware] = []
        if http.allowed_origins:
            patterns = [re.escape(origin).replace(r":\*", r":\d+") for origin in http.allowed_origins]
            middleware.append(
                Middleware(
                    CORSMiddleware,
                    allow_origin_regex="|".join(patterns),
                    allow_methods=methods,
                    allow_headers=["*"],
                    expose_headers=["WWW-Authenticate", "Mcp-Session-Id"],
                )
            )
        if http.issuer:
            url = AnyHttpUrl(http.url)
            metadata = build_resource_metadata_url(url)
            tools: dict[str, Tool | Workflow] = {**offered(toolbox), **toolbox.tools}
            scopes = {name: http.scopes[tool.effect] for name, tool in tools.items()}
            challenge = _ScopeChallenge(endpoint, scopes, http.scopes["read"], metadata)
            endpoint = RequireAuthMiddleware(
                RequestBodyLimitMiddleware(challenge, DEFAULT_MAX_REQUEST_BODY_SIZE), [], metadata
            )
            backend = BearerAuthBackend(Verifier(http, http.audience or http.url))
            middleware += [Middleware(AuthenticationMiddleware, backend=backend), Middleware(AuthContextMiddleware)]
            routes = create_protected_resource_routes(
                url, [AnyHttpUrl(http.issuer)], sorted(set(http.scopes.values())), "Isocenter"
            )
        routes.append(Route(PATH, endpoint, methods=methods))
        return Starlette(routes=routes, middleware=middleware, lifespan=lambda _: manager.run())


def _security(http: Http, host: str) -> TransportSecuritySettings:
    """The Host and Origin headers that are accepted: loopback, where we listen, the public address, what is configured."""
    public = urlsplit(http.url)
    here = f"[{host}]" if ":" in host else host
    hosts = [*LOOPBACK, here, public.netloc, *http.allowed_hosts]
    origins = [*(f"http://{name}" for name in LOOPBACK), f"{public.scheme}://{public.netloc}", *http.allowed_origins]
    ported = re.compile(r":(\d+|\*)$")
    return TransportSecuritySettings(
        allowed_hosts=[form for name in hosts for form in ((name,) if ported.search(name) else (name, f"{name}:*"))],
        allowed_origins=[*origins, *(f"http://{name}:*" for name in LOOPBACK)],
    )


def serve(
    make: Callable[[], Toolbox],
    http: Http,
    host: str,
    port: int,
    *,
    workers: int = 1,
    insecure: bool = False,
    sandbox: Path | None = None,
    sessions: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM; running calls then get ten seconds to end. Port 0 takes a free one.

    `make` builds the toolbox in each of the `workers` processes; `sandbox` is the data directory of a sandbox inside the (one)
    process. `sessions` are kept for clients of the protocol before 2026-07-28, which can be asked only within one; they live in one
    process. Says on standard error where it listens. Raises BadConfiguration for what would be unsafe or could not work.
    """
    open_to_all = not is_loopback(host)
    if open_to_all and not http.issuer and not insecure:
        raise BadConfiguration(
            f"{host} can be reached by others and nobody would be asked who they are. Set issuer, audience and jwks_url or key_file "
            "in [http], listen on 127.0.0.1, or give --insecure."
        )
    if open_to_all and http.issuer and not http.url:
        raise BadConfiguration(
            "[http] url: give the public address of this server, ending with /mcp; tokens are made for it."
        )
    if host in ("", "0.0.0.0", "::") and not (http.url or http.allowed_hosts):  # noqa: S104  # compared, not bound
        raise BadConfiguration(
            f"[http] allowed_hosts: listening on {host or 'every address'}, name the hosts clients may ask for."
        )
    if sandbox and workers > 1:
        raise BadConfiguration(
            "One sandbox serves one process: leave out --workers, or run `isocenter sandbox` beside it."
        )
    if sessions and workers > 1:
        raise BadConfiguration("Sessions live in one process: leave out --workers or --sessions.")
    with _listener(host, port) as listener:
        port = listener.getsockname()[1]
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}{PATH}"
        http = replace(http, url=http.url or url, state_keys=http.state_keys or (secrets.token_hex(32),))
        application = Application(make, http, host, sandbox, sessions)
        config = uvicorn.Config(
            application if workers > 1 else application(),
            factory=workers > 1,
            workers=workers,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=GRACE,
            timeout_worker_healthcheck=30,
        )
        print(f"isocenter: serving MCP on {url}", file=sys.stderr, flush=True)
        if workers > 1:
            Multiprocess(config, [listener]).run()
            return
        # The server raises the signal that ended it once more when all is done; by then it is no failure.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listener])


def _listener(host: str, port: int) -> socket.socket:
    """A listening socket that names its protocol: asyncio switches Nagle's delay off only for those."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        try:
            if os.name == "posix":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(512)
            listener.set_inheritable(True)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise BadConfiguration(f"Cannot listen on {host} port {port}: {error.strerror}.") from error
    return listener
