"""`isocenter serve --http` over real sockets: two processes behind one key, callers told apart by token and header, both eras."""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from mcp import Client, types
from mcp.client.streamable_http import streamable_http_client
from upstream import Reply, Upstream

from isocenter import cli
from isocenter.agent import http as over_http
from isocenter.agent.embedded import base_urls
from isocenter.agent.http import Verifier
from isocenter.agent.toolbox import own_apis
from isocenter.sandbox.app import Running
from isocenter.settings import BadConfiguration, Http, Settings, load, with_tokens

pytestmark = pytest.mark.anyio
Era = Literal["auto", "legacy"]
ERAS: tuple[Era, ...] = ("auto", "legacy")
SECONDS = 30  # the longest any single wait may take
SPEC = Path(__file__).parent / "specs" / "minirad.yaml"
ISSUER, AUDIENCE = "https://login.example.test/", "https://imaging.example.test/mcp"
EVERYTHING = "read write send destroy"
SIGNER = ec.generate_private_key(ec.SECP256R1())
FORM: dict[str, Any] = {"elicitation": {"form": {}}}


def jwks(**keys: ec.EllipticCurvePrivateKey) -> str:
    algorithm = jwt.algorithms.ECAlgorithm
    return json.dumps(
        {"keys": [{**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": name} for name, key in keys.items()]}
    )


def token(
    scope: str = EVERYTHING,
    *,
    key: Any = SIGNER,
    algorithm: str = "ES256",
    kid: str = "one",
    without: str = "",
    **claims: Any,
) -> str:
    body = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "scope": scope, "exp": int(time.time()) + 300, **claims}
    body.pop(without, None)
    return jwt.encode(body, key, algorithm, headers={"kid": kid})


class Served:
    """A server process: where it answers, and what it said on standard error so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr
        self.process = process
        self.said: list[str] = []
        for line in process.stderr:
            self.said.append(line)
            if "serving MCP on" in line:
                break
        assert "serving MCP on" in self.said[-1], self.said
        self.url = self.said[-1].split()[-1]
        self._reader = threading.Thread(target=self.said.extend, args=(process.stderr,))
        self._reader.start()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(SECONDS)
        self._reader.join(SECONDS)
        return code


@contextmanager
def process(folder: Path, *options: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "isocenter", "serve", "--http", "--port", "0", "--verbose", *options]
    environment = os.environ | {
        "XDG_CONFIG_HOME": str(folder),
        "ISOCENTER_DOWNLOAD_DIR": str(folder / "downloads"),
        **{f"ISOCENTER_{name}": value for name, value in environ.items()},
    }
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, cwd=folder, start_new_session=True
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                os.killpg(running.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("http")


@pytest.fixture(scope="module")
def pair(sandbox: Running, home: Path) -> Iterator[tuple[Served, Served]]:
    """Two processes that serve one address: tokens, one key, the operator's credentials for CIRCUS only."""
    (home / "jwks.json").write_text(jwks(one=SIGNER))
    (home / "shared").mkdir()
    environ = {f"{api.upper().replace('-', '_')}_BASE_URL": url for api, url in base_urls(sandbox.url).items()}
    environ |= {
        "CIRCUS_TOKEN": sandbox.sandbox.credentials["circus"]["token"],
        "ROOTS": str(home / "shared"),
        "HTTP_URL": AUDIENCE,
        "HTTP_ISSUER": ISSUER,
        "HTTP_KEY_FILE": str(home / "jwks.json"),
        "HTTP_ALLOWED_ORIGINS": "https://app.example.test",
        "HTTP_STATE_KEYS": "k" * 40,
        "AUDIT": str(home / "audit.jsonl"),
    }
    with ExitStack() as stack:
        started = [stack.enter_context(process(home, "--toolset", "all", **environ)) for _ in range(2)]
        first, second = (Served(running) for running in started)
        yield first, second
        assert [first.stop(), second.stop()] == [0, 0]


@asynccontextmanager
async def connected(
    url: str, bearer: str, era: Era = "auto", headers: dict[str, str] | None = None
) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {bearer}", **(headers or {})}, timeout=SECONDS) as http,
        Client(streamable_http_client(url, http_client=http), mode=era) as client,
    ):
        yield client


async def post(url: str, method: str, bearer: str = "", /, extra: Any = (), **params: Any) -> httpx.Response:
    """One request of the modern era, as it stands on the wire, on a connection of its own."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": FORM,
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": method,
        **({"Mcp-Name": params["name"]} if "name" in params else {}),
        **({"Authorization": f"Bearer {bearer}"} if bearer else {}),
        **dict(extra),
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    async with httpx.AsyncClient(timeout=SECONDS) as client:
        return await client.post(url, headers=headers, json=message)


def text(result: types.CallToolResult) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


async def a_series(client: Client) -> str:
    listed = (await client.call_tool("search_series", {"Modality": "CT"})).structured_content or {}
    return str(listed["data"][0]["SeriesInstanceUID"])


# -- who may do what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_scopes_decide_which_tools_there_are(pair: tuple[Served, Served], era: Era) -> None:
    async with connected(pair[0].url, token("read"), era) as client:
        assert client.protocol_version == ("2026-07-28" if era == "auto" else "2025-11-25")
        read = (await client.list_tools()).tools
        assert not (await client.call_tool("list_collections", {})).is_error
    async with connected(pair[1].url, token(), era) as client:
        everything = {tool.name for tool in (await client.list_tools()).tools}

    assert read and all(tool.annotations and tool.annotations.read_only_hint for tool in read)
    assert everything > {tool.name for tool in read}
    assert {"delete_case", "read_dicom_file"} <= everything
    # Nothing is remembered between calls, so what only hands out a secret would lose it.
    assert not {"obtain_dicomaestro_token", "create_circus_token", "create_dicomaestro_key"} & everything


@pytest.mark.parametrize("scp", ["read destroy", ["read", "destroy"]])
async def test_a_call_beyond_the_scopes_is_challenged(pair: tuple[Served, Served], scp: Any) -> None:
    bearer = token(without="scope", scp=scp)

    refused = await post(pair[0].url, "tools/call", bearer, name="read_dicom_file", arguments={})
    allowed = await post(pair[0].url, "tools/call", bearer, name="delete_case", arguments={})

    assert (refused.status_code, refused.json()["error"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope", scope="send"' in refused.headers["www-authenticate"]
    assert "invalid_request" in allowed.json()["result"]["content"][0]["text"]


async def test_operations_behind_three_tools_need_their_scopes_too(tmp_path: Path) -> None:
    (tmp_path / "jwks.json").write_text(jwks(one=SIGNER))
    toolbox = own_apis(Settings(download_dir=tmp_path), ["circus"])
    toolbox.discover = True
    http = Http(url=AUDIENCE, issuer=ISSUER, key_file=tmp_path / "jwks.json", state_keys=("k" * 40,))
    application = over_http.Application(lambda: toolbox, http, "127.0.0.1")()
    call = {"name": "call_operation", "arguments": {"name": "delete_case", "arguments": {"caseId": "x"}}}

    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://127.0.0.1") as client:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
        refused = await client.post("/mcp", json=message, headers={"Authorization": f"Bearer {token('read write')}"})

    assert refused.status_code == 403 and 'scope="destroy"' in refused.headers["www-authenticate"]
    await toolbox.aclose()


OTHER = ec.generate_private_key(ec.SECP256R1())
PEM = SIGNER.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def forged() -> str:
    """Signed with the public key as if it were a shared secret, which PyJWT itself refuses to do."""
    claims = token().split(".")[1]
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').decode().rstrip("=")
    signature = hmac.digest(PEM, f"{head}.{claims}".encode(), "sha256")
    return f"{head}.{claims}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


@pytest.mark.parametrize(
    "bearer",
    [
        pytest.param("", id="none"),
        pytest.param("gibberish", id="no JWT"),
        pytest.param(token(exp=int(time.time()) - 3600), id="expired"),
        pytest.param(token(without="exp"), id="never expires"),
        pytest.param(token(without="sub"), id="of nobody"),
        pytest.param(token(nbf=int(time.time()) + 3600), id="not yet valid"),
        pytest.param(token(iss="https://elsewhere.test/"), id="other issuer"),
        pytest.param(token(aud="https://elsewhere.test/mcp"), id="other audience"),
        pytest.param(token(key=OTHER), id="other signer"),
        pytest.param(token(kid="two"), id="unknown key"),
        pytest.param(forged(), id="public key as secret"),
        pytest.param(token(without="scope", scp=7), id="scopes of another kind"),
        pytest.param(token(key=None, algorithm="none"), id="not signed"),
    ],
)
async def test_without_a_good_token_nobody_comes_in(pair: tuple[Served, Served], bearer: str) -> None:
    answer = await post(pair[0].url, "tools/list", bearer)

    assert answer.status_code == 401
    challenge = answer.headers["www-authenticate"]
    where = "https://imaging.example.test/.well-known/oauth-protected-resource/mcp"
    assert challenge.startswith("Bearer ") and f'resource_metadata="{where}"' in challenge
    assert not bearer or not any(bearer in line for line in pair[0].said)


async def test_metadata_says_who_issues_tokens(pair: tuple[Served, Served]) -> None:
    async with httpx.AsyncClient() as client:
        path = "/.well-known/oauth-protected-resource/mcp"
        metadata = (await client.get(pair[0].url.replace("/mcp", path))).raise_for_status().json()

    assert (metadata["resource"], metadata["authorization_servers"]) == (AUDIENCE, [ISSUER])
    assert set(metadata["scopes_supported"]) == {"read", "write", "send", "destroy"}


async def test_keys_are_cached_and_looked_up_again_for_a_new_one(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(jwks(one=SIGNER))
    http = Http(issuer=ISSUER, key_file=file)
    eager, patient = Verifier(http, AUDIENCE, patience=0), Verifier(http, AUDIENCE)
    assert await eager.verify_token(token()) and await patient.verify_token(token())

    file.write_text(jwks(two=OTHER))
    renewed = token(key=OTHER, kid="two")
    assert await patient.verify_token(token())
    assert await patient.verify_token(renewed) is None
    assert await eager.verify_token(renewed)
    assert await eager.verify_token(token()) is None

    file.unlink()
    assert await eager.verify_token(renewed)


async def test_keys_come_from_an_address_or_as_pem(tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(PEM)
    with Upstream() as keys:
        keys.next(Reply(503), Reply(body=jwks(one=SIGNER)))
        fetched = Verifier(Http(issuer=ISSUER, jwks_url=keys.url), AUDIENCE, patience=0)
        assert await fetched.verify_token(token()) is None
        assert await fetched.verify_token(token())
        assert await fetched.verify_token(token())
        assert len(keys.log) == 2

    from_file = Verifier(Http(issuer=ISSUER, key_file=file), AUDIENCE)
    assert await from_file.verify_token(token())
    assert await from_file.verify_token(token(key=OTHER)) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.test"}, 421),
        ({"Origin": "https://evil.test"}, 403),
        ({"Host": "imaging.example.test", "Origin": "https://app.example.test"}, 200),
        ({"Origin": "http://localhost:6274"}, 200),
    ],
)
async def test_host_and_origin_are_looked_at(pair: tuple[Served, Served], headers: dict[str, str], status: int) -> None:
    answer = await post(pair[0].url, "tools/list", token(), extra=headers)

    assert answer.status_code == status


async def test_browsers_of_allowed_origins_get_through(pair: tuple[Served, Served]) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,mcp-method"}
    async with httpx.AsyncClient() as client:
        ours = await client.options(pair[0].url, headers={"Origin": "https://app.example.test", **asked})
        others = await client.options(pair[0].url, headers={"Origin": "https://app.example.test.evil.test", **asked})
        assert (await client.get(pair[0].url)).status_code == 405

    assert (ours.status_code, ours.headers["access-control-allow-origin"]) == (200, "https://app.example.test")
    assert others.status_code == 400


# -- several processes -----------------------------------------------------------------------------------------------


async def case_on(client: Client) -> str:
    account = (await client.call_tool("get_circus_account", {})).structured_content or {}
    project = next(entry["projectId"] for entry in account["data"]["accessibleProjects"] if "write" in entry["roles"])
    listed = (await client.call_tool("search_circus_series", {})).structured_content or {}
    entry = {"seriesUid": listed["data"]["items"][0]["seriesUid"], "partialVolumeDescriptor": "auto"}
    result = await client.call_tool("create_case", {"projectId": project, "series": [entry], "tags": ["one"]})
    return str((result.structured_content or {})["data"]["caseId"])


async def test_a_question_of_one_process_is_answered_to_the_other(pair: tuple[Served, Served]) -> None:
    first, second = (served.url for served in pair)
    async with connected(first, token()) as client:
        case = await case_on(client)
    call = {"name": "delete_case", "arguments": {"caseId": case}}
    yes = {"confirm": {"action": "accept", "content": {"confirm": True}}}

    asked = (await post(first, "tools/call", token(), **call)).json()["result"]
    assert asked["resultType"] == "input_required"
    assert case in asked["inputRequests"]["confirm"]["params"]["message"]
    state = asked["requestState"]
    answer = {"inputResponses": yes, "requestState": state}
    other_case = {"name": "delete_case", "arguments": {"caseId": f"{case}x"}}
    for refused in (
        await post(second, "tools/call", token(), **other_case, **answer),
        await post(second, "tools/call", token(sub="mallory"), **call, **answer),
        await post(second, "tools/call", token(), **call, **{**answer, "requestState": f"{state[:-4]}AAAA"}),
    ):
        assert refused.json()["error"]["message"] == "Invalid or expired requestState"
    done = (await post(second, "tools/call", token(), **call, **answer)).json()["result"]

    assert not done.get("isError"), done
    async with connected(first, token()) as client:
        assert (await client.call_tool("get_case", {"caseId": case})).is_error


async def test_where_no_one_can_be_asked_nothing_is_destroyed(pair: tuple[Served, Served]) -> None:
    async with connected(pair[0].url, token(), "legacy") as client:
        case = await case_on(client)
        result = await client.call_tool("delete_case", {"caseId": case})
        assert result.is_error and "declined" in text(result)
        assert not (await client.call_tool("get_case", {"caseId": case})).is_error


@pytest.mark.parametrize("era", ERAS)
async def test_in_a_session_clients_of_both_eras_can_be_asked(sandbox: Running, tmp_path: Path, era: Era) -> None:
    (tmp_path / "jwks.json").write_text(jwks(one=SIGNER))
    environ = {
        "CIRCUS_BASE_URL": base_urls(sandbox.url)["circus"],
        "CIRCUS_TOKEN": sandbox.sandbox.credentials["circus"]["token"],
        "HTTP_URL": AUDIENCE,
        "HTTP_ISSUER": ISSUER,
        "HTTP_KEY_FILE": str(tmp_path / "jwks.json"),
    }
    asked: list[str] = []

    async def person(context: Any, params: Any) -> types.ElicitResult:
        asked.append(params.message)
        return types.ElicitResult(action="accept", content={"confirm": True})

    with process(tmp_path, "--sessions", "--toolset", "all", **environ) as running:
        served = Served(running)
        alice = {"Authorization": f"Bearer {token()}"}
        async with (
            httpx2.AsyncClient(headers=alice, timeout=SECONDS) as http,
            Client(
                streamable_http_client(served.url, http_client=http), mode=era, elicitation_callback=person
            ) as client,
        ):
            case = await case_on(client)
            deleted = await client.call_tool("delete_case", {"caseId": case})
            assert not deleted.is_error, text(deleted)
            assert (await client.call_tool("get_case", {"caseId": case})).is_error
            sessions = {line.split()[-1] for line in served.said if "with session ID" in line}
            for session in sessions:  # is of no use to anybody else
                stolen = {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}
                mallory = {"Authorization": f"Bearer {token(sub='mallory')}", **stolen}
                ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
                refused = await http.post(
                    served.url, json=ping, headers={**mallory, "Accept": "application/json, text/event-stream"}
                )
                assert refused.status_code == 404
        assert served.stop() == 0
    assert len(asked) == 1 and case in asked[0]
    assert bool(sessions) == (era == "legacy")


async def test_workers_share_one_address_and_one_key(tmp_path: Path) -> None:
    call = {"name": "delete_images", "arguments": {"caseId": "MR-0001", "number": [1]}}
    yes = {"confirm": {"action": "accept", "content": {"confirm": True}}}
    with Upstream() as upstream:
        options = ("--spec", str(SPEC), "--base-url", upstream.url, "--workers", "2")
        with process(tmp_path, *options, SPEC_BEARERAUTH="token-of-the-test") as running:
            served = Served(running)
            for _ in range(8):  # whichever process takes the connection
                asked = (await post(served.url, "tools/call", **call)).json()["result"]
                answer = {"inputResponses": yes, "requestState": asked["requestState"]}
                done = (await post(served.url, "tools/call", **call, **answer)).json()["result"]
                assert done["structuredContent"] == {"status": 204}
            assert served.stop() == 0
        assert len(upstream.log) == 8


async def test_running_calls_end_before_the_process_does(tmp_path: Path) -> None:
    with Upstream() as upstream:
        options = ("--spec", str(SPEC), "--base-url", upstream.url)
        with process(tmp_path, *options, SPEC_BEARERAUTH="token-of-the-test") as running:
            served = Served(running)
            upstream.next(Reply(body={"version": "1.0.0"}, how="hang"))

            def stop() -> None:
                upstream.wait(lambda log: len(log) == 1)
                running.send_signal(signal.SIGTERM)
                while "shutdown begins" not in closed(served.url):
                    pass
                upstream.release()

            stopper = threading.Thread(target=stop)
            stopper.start()
            answer = await post(served.url, "tools/call", name="get_info", arguments={})
            stopper.join(SECONDS)
            assert answer.json()["result"]["structuredContent"]["data"] == {"version": "1.0.0"}
            assert running.wait(SECONDS) == 0


def closed(url: str) -> str:
    """`shutdown begins` once new connections are refused."""
    try:
        httpx.get(url, timeout=1)
    except httpx.TransportError:
        return "shutdown begins"
    return ""


# -- whose credentials, whose files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_a_callers_own_credentials_serve_that_caller_only(
    pair: tuple[Served, Served], sandbox: Running, era: Era
) -> None:
    key = sandbox.sandbox.credentials["dicomaestro"]["api_key"]
    own = {"X-Isocenter-DICOMaestro-Api-Key": key}
    async with connected(pair[0].url, token(sub="bob"), era, own) as client:
        with_key = await client.call_tool("get_dicomaestro_usage", {})
    async with connected(pair[0].url, token(), era) as client:
        without = await client.call_tool("get_dicomaestro_usage", {})

    assert not with_key.is_error, text(with_key)
    assert without.is_error and "x-isocenter-" in text(without)
    assert not any(key in said for said in (text(with_key), *pair[0].said))


async def test_a_callers_credentials_are_never_mixed_with_the_operators(pair: tuple[Served, Served]) -> None:
    wrong = {"X-Isocenter-Circus-Token": "0" * 40}
    async with connected(pair[0].url, token(), headers=wrong) as client:
        assert "401" in text(await client.call_tool("get_circus_account", {}))
    async with connected(pair[0].url, token()) as client:
        assert not (await client.call_tool("get_circus_account", {})).is_error


@pytest.mark.parametrize("name", ["X-Isocenter-Circus-Tokn", "X-Isocenter-Circus-Base-Url", "X-Isocenter-"])
async def test_a_header_that_is_no_credential_is_refused(pair: tuple[Served, Served], name: str) -> None:
    async with connected(pair[0].url, token(), headers={name: "https://evil.test"}) as client:
        result = await client.call_tool("get_circus_account", {})

    assert result.is_error and name.lower() in text(result)
    assert "evil" not in text(result)


async def test_completions_are_what_the_caller_may_see(pair: tuple[Served, Served]) -> None:
    wanted = {"ref": {"type": "ref/prompt", "name": "any"}, "argument": {"name": "project", "value": ""}}
    wrong = {"X-Isocenter-Circus-Token": "0" * 40}
    for _ in range(5):
        mine = await post(pair[0].url, "completion/complete", token(), **wanted)
        others = await post(pair[0].url, "completion/complete", token(sub="bob"), extra=wrong, **wanted)
        assert mine.json()["result"]["completion"]["values"]
        assert others.json()["result"]["completion"]["values"] == []
    refused = await post(pair[0].url, "completion/complete", token("write"), **wanted)
    assert (refused.status_code, refused.json()["error"]) == (403, "insufficient_scope")


def test_what_a_service_hands_out_stays_in_its_call(tmp_path: Path) -> None:
    toolbox = own_apis(Settings(download_dir=tmp_path), ["circus"])
    one, two = (toolbox.view(toolbox.settings, {}) for _ in range(2))

    one.clients["circus"].credentials.keep("token", "handed-out-secret")

    assert one.hide("handed-out-secret") != "handed-out-secret"
    assert all("token" not in box.clients["circus"].credentials for box in (two, toolbox))


def test_a_callers_credentials_do_not_cross_a_network_in_the_open(tmp_path: Path) -> None:
    toolbox = own_apis(Settings(download_dir=tmp_path), ["circus"])
    toolbox.point({"circus": "http://circus.example.test/api"}, {})

    with pytest.raises(BadConfiguration, match="https"):
        toolbox.view(toolbox.settings, {"circus": {"token": "of-the-caller"}})


@pytest.mark.parametrize("era", ERAS)
async def test_each_caller_has_a_folder_and_sees_progress(pair: tuple[Served, Served], home: Path, era: Era) -> None:
    seen: list[tuple[float, float | None]] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    paths: list[Path] = []
    for who in ("alice", "bob"):
        async with connected(pair[0].url, token(sub=who), era) as client:
            series = {"SeriesInstanceUID": await a_series(client)}
            images = (await client.call_tool("list_series_images", series)).structured_content or {}
            wanted = {**series, "SOPInstanceUID": images["data"][0]["SOPInstanceUID"], "save_to": "mine"}
            result = await client.call_tool("download_image", wanted, progress_callback=progress)
            paths.append(Path((result.structured_content or {})["file"]["path"]))

    folders = {path.parent for path in paths}
    assert len(folders) == 2 and all(folder.name == "mine" for folder in folders)
    assert all(path.is_file() and path.is_relative_to(home / "downloads" / "callers") for path in paths)
    assert seen and seen[-1][0] == paths[-1].stat().st_size
    records = [json.loads(line) for line in (home / "audit.jsonl").read_text().splitlines()]
    loaded = [record["caller"] for record in records if record["tool"] == "download_image"][-2:]
    assert loaded == [path.relative_to(home / "downloads" / "callers").parts[0] for path in paths]


async def test_files_come_from_allowed_folders_only(pair: tuple[Served, Served], sandbox: Running, home: Path) -> None:
    async with connected(pair[0].url, token(sub="carol")) as client:
        series = {"SeriesInstanceUID": await a_series(client)}
        images = (await client.call_tool("list_series_images", series)).structured_content or {}
        wanted = {**series, "SOPInstanceUID": images["data"][0]["SOPInstanceUID"]}
        saved = (await client.call_tool("download_image", wanted)).structured_content or {}
    mine = Path(saved["file"]["path"])
    for folder in ("shared", "private"):
        (home / folder).mkdir(exist_ok=True)
        (home / folder / "one.dcm").write_bytes(mine.read_bytes())
    (home / "shared" / "link.dcm").symlink_to(home / "private" / "one.dcm")
    headers = {"X-Isocenter-Dicomaestro-Api-Key": sandbox.sandbox.credentials["dicomaestro"]["api_key"]}

    async def reading(who: str, file: str) -> str:
        arguments = {"file": file, "fields": "Modality"}
        answer = await post(
            pair[0].url, "tools/call", token(sub=who), extra=headers, name="read_dicom_file", arguments=arguments
        )
        result = answer.json()["result"]
        return "asked" if result["resultType"] == "input_required" else str(result["content"][0]["text"])

    # A question comes only when the arguments are good.
    assert await reading("carol", str(mine)) == "asked"
    assert await reading("carol", str(home / "shared" / "one.dcm")) == "asked"
    content = base64.b64encode(mine.read_bytes()).decode()
    assert await reading("dave", f"data:application/dicom;base64,{content}") == "asked"
    refusals = {
        await reading("carol", str(home / "private" / "one.dcm")),
        await reading("carol", str(home / "private" / "none.dcm")),
        await reading("carol", str(home / "shared" / "link.dcm")),
        await reading("dave", str(mine)),
        await reading("carol", "/etc/passwd"),
    }
    # In the same words for all, but for the length of what was given: what exists is not told.
    assert {re.sub(r"[0-9]+ characters", "text", refusal) for refusal in refusals} == {
        re.sub(r"[0-9]+ characters", "text", await reading("carol", "/nowhere/at/all.dcm"))
    }
    assert all("below one of the folders the operator allows" in refusal for refusal in refusals)


@pytest.mark.parametrize("where", ["/tmp", "..", "../../elsewhere", "a/../../b", "a\x00b"])
async def test_results_go_nowhere_else(pair: tuple[Served, Served], where: str) -> None:
    async with connected(pair[0].url, token()) as client:
        wanted = {"SeriesInstanceUID": "2.25.1", "SOPInstanceUID": "2.25.2", "save_to": where}
        result = await client.call_tool("download_image", wanted)

    assert result.is_error and "Nothing was sent" in text(result)


# -- what is refused at the start ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("http", "host", "options", "message"),
    [
        (Http(), "0.0.0.0", {}, "nobody would be asked"),
        (Http(), "192.0.2.1", {}, "--insecure"),
        (Http(), "0.0.0.0", {"insecure": True}, "allowed_hosts"),
        (Http(issuer=ISSUER, jwks_url="https://x.test"), "0.0.0.0", {}, "public address"),
        (Http(), "127.0.0.1", {"sandbox": Path("x"), "workers": 2}, "One sandbox"),
        (Http(), "127.0.0.1", {"sessions": True, "workers": 2}, "Sessions live in one process"),
        (Http(), "192.0.2.1", {"insecure": True}, "Cannot listen on 192.0.2.1 port 0"),
    ],
)
def test_unsafe_starts_are_refused(http: Http, host: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        over_http.serve(lambda: own_apis(Settings()), http, host, 0, **options)


def test_the_command_line_says_so_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/nonexistent")
    monkeypatch.setattr("sys.argv", ["isocenter", "serve", "--http", "--host", "0.0.0.0"])

    with pytest.raises(SystemExit) as ended:
        cli.main()

    assert ended.value.code == 1 and "--insecure" in capsys.readouterr().err


def configured(tmp_path: Path, table: str, **environ: str) -> Http:
    file = tmp_path / "config.toml"
    file.write_text(f"[http]\n{table}")
    return load(["circus"], file, {f"ISOCENTER_HTTP_{name}": value for name, value in environ.items()}).http


def test_http_can_be_configured(tmp_path: Path) -> None:
    http = configured(
        tmp_path,
        """
        url = "https://imaging.example.test/mcp"
        issuer = "https://login.example.test/"
        jwks_url = "https://login.example.test/jwks/?policy=a"
        algorithms = ["ES256"]
        scopes = { destroy = "imaging:admin" }
        allowed_hosts = ["inside.test"]
        """,
        AUDIENCE="imaging",
        STATE_KEYS=f"{'a' * 32},{'b' * 32}",
    )

    assert (http.url, http.issuer, http.audience) == (AUDIENCE, ISSUER, "imaging")
    assert http.jwks_url == "https://login.example.test/jwks/?policy=a"
    assert (http.algorithms, http.allowed_hosts) == (("ES256",), ("inside.test",))
    assert http.scopes == {"read": "read", "write": "write", "send": "send", "destroy": "imaging:admin"}
    assert http.state_keys == ("a" * 32, "b" * 32)
    assert "aaaa" not in repr(http)
    assert with_tokens(http) == http
    assert with_tokens(Http(), ISSUER, "imaging", "https://x.test/jwks").jwks_url == "https://x.test/jwks"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('algorithms = ["HS256"]', "HS256 is none of"),
        ('state_keys = ["short"]', "32 characters"),
        ('state_keys = "' + "a" * 32 + "," + "a" * 32 + '"', "all different"),
        ('scopes = { erase = "x" }', "erase"),
        ('scopes = { read = "two words" }', "one word"),
        ('jwks_url = "http://login.example.test/jwks"', "https"),
        ("issuer = 1", "text in quotes"),
        ('isuer = "https://x.test"', "issuer"),
    ],
)
def test_bad_http_settings_are_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        configured(tmp_path, table)


@pytest.mark.parametrize(
    ("http", "given", "message"),
    [
        (Http(issuer=ISSUER), (), "one of jwks_url and key_file"),
        (Http(issuer=ISSUER, jwks_url="https://x.test", key_file=Path("x")), (), "one of jwks_url and key_file"),
        (Http(audience="imaging"), (), "no issuer"),
        (Http(), (ISSUER, "", "/nowhere.json"), "no such file"),
        (Http(), ("login", "", "https://x.test/jwks"), "issuer"),
    ],
)
def test_half_a_configuration_of_tokens_is_refused(http: Http, given: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadConfiguration, match=message):
        with_tokens(http, *given)
