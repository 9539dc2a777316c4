"""The production server over HTTP with the things in it that the MCP conformance suite asks for by name.

`python conformance_server.py [--sessions]` listens on a free port of this machine and says where, as `isocenter serve --http` does. What
the suite calls goes through production wherever production has words for it: tools are workflows, so their arguments are
checked, a person is asked, progress is reported, and results and errors are laid out as for our own; texts of prompts,
resources, completions, Host and Origin checks and the sealing of questions are production's, too. Content and questions that
we never send (audio, embedded resources, sampling, roots) are answered by handlers around the production ones.
"""

from __future__ import annotations

import base64
import io
import json
import re
import sys
import tempfile
import warnings
import wave
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from mcp import MCPError, types
from mcp.server import Server, ServerRequestContext
from PIL import Image
from pydantic import BaseModel

from isocenter.agent import http, prompts, resources, server, workflows
from isocenter.agent.audit import Record
from isocenter.agent.present import Presentation
from isocenter.agent.toolbox import Toolbox, own_apis
from isocenter.agent.workflows.kind import Stuck, Work, Workflow
from isocenter.core.tool import Effect
from isocenter.settings import Http, Settings

Context = ServerRequestContext[Any]
Answer = types.CallToolResult | types.InputRequiredResult
Called = Callable[[Context, types.CallToolRequestParams], Answer | Awaitable[Answer]]
Params = TypeVar("Params", bound=BaseModel)


def _picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1), "red").save(buffer, "png")
    return buffer.getvalue()


def _sound() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(b"\x80" * 8)
    return buffer.getvalue()


PNG, WAV = _picture(), _sound()


# Tools that are workflows: the whole of production stands between them and the suite.


def _workflow(
    name: str, run: Callable[[Work], Awaitable[Presentation]], effect: Effect = "read", **texts: str
) -> Workflow:
    return Workflow(
        name=name,
        title=name,
        description=f"What the conformance suite expects of {name}.",
        effect=effect,
        apis=(),
        run=run,
        properties={argument: {"type": "string", "description": words} for argument, words in texts.items()},
        required=tuple(texts),
    )


async def _text(work: Work) -> Presentation:
    return Presentation("This is a simple text response for testing.", None)


async def _image(work: Work) -> Presentation:
    return Presentation("An image.", None, [(PNG, "image/png")])


async def _error(work: Work) -> Presentation:
    raise Stuck("This tool intentionally returns an error for testing")


async def _progress(work: Work) -> Presentation:
    for done in (0, 50, 100):
        await work.report(done, 100, f"{done} of 100")
    return Presentation("done", None)


async def _asks(work: Work) -> Presentation:
    await work.ask(work.given.get("message", "Go ahead?"))
    return Presentation("The person said yes.", None)


WORKFLOWS = (
    _workflow("test_simple_text", _text),
    _workflow("test_image_content", _image),
    _workflow("test_error_handling", _error),
    _workflow("test_tool_with_progress", _progress),
    _workflow("test_tool_with_logging", _text),  # production sends no protocol messages for logs
    _workflow("test_logging_tool", _text),
    _workflow("test_elicitation", _asks, "destroy", message="What the person is asked."),
    _workflow("test_streaming_elicitation", _asks, "destroy"),
    _workflow("test_input_required_result_tampered_state", _asks, "destroy"),
)


# Tools beyond production's words.


def _says(*content: types.ContentBlock | str) -> types.CallToolResult:
    blocks = [types.TextContent(type="text", text=part) if isinstance(part, str) else part for part in content]
    return types.CallToolResult(content=blocks)


def _embedded(uri: str, media_type: str, text: str) -> types.EmbeddedResource:
    resource = types.TextResourceContents(uri=uri, mime_type=media_type, text=text)
    return types.EmbeddedResource(type="resource", resource=resource)


def _picture_block() -> types.ImageContent:
    return types.ImageContent(type="image", data=base64.b64encode(PNG).decode(), mime_type="image/png")


def _audio(ctx: Context, params: types.CallToolRequestParams) -> Answer:
    return _says(types.AudioContent(type="audio", data=base64.b64encode(WAV).decode(), mime_type="audio/wav"))


def _resource(ctx: Context, params: types.CallToolRequestParams) -> Answer:
    return _says(_embedded("test://embedded-resource", "text/plain", "This is an embedded resource content."))


def _mixed(ctx: Context, params: types.CallToolRequestParams) -> Answer:
    json_text = '{"test":"data","value":123}'
    embedded = _embedded("test://mixed-content-resource", "application/json", json_text)
    return _says("Multiple content types test:", _picture_block(), embedded)


def _needs_sampling(ctx: Context, params: types.CallToolRequestParams) -> Answer:
    capabilities = ctx.session.client_capabilities
    if capabilities and capabilities.sampling is not None:
        return _says("The client can sample.")
    raise MCPError(
        types.MISSING_REQUIRED_CLIENT_CAPABILITY,
        "This tool samples and the client cannot.",
        {"requiredCapabilities": {"sampling": {}}},
    )


def _form(message: str, field: str, kind: str = "string") -> types.ElicitRequest:
    schema = {"type": "object", "properties": {field: {"type": kind}}, "required": [field]}
    return types.ElicitRequest(params=types.ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(question: str, most: int) -> types.CreateMessageRequest:
    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text=question))
    return types.CreateMessageRequest(params=types.CreateMessageRequestParams(messages=[message], max_tokens=most))


def _roots() -> types.ListRootsRequest:
    return types.ListRootsRequest(params=types.RequestParams())


def _rounds(*rounds: dict[str, Any], stated: bool = True) -> Called:
    """A tool that asks round after round. With `stated` it knows the round by the state alone, which is sealed."""

    def call(ctx: Context, params: types.CallToolRequestParams) -> Answer:
        given = params.input_responses or {}
        reached = int(params.request_state or 0) if stated else int(set(rounds[0]) <= set(given))
        if reached and not set(rounds[reached - 1]) <= set(given):
            reached -= 1
        if reached == len(rounds):
            return _says(f"state-ok, got {', '.join(given)}")
        state = str(reached + 1) if stated else None
        return types.InputRequiredResult(input_requests=rounds[reached], request_state=state)

    return call


def _what_the_client_can(ctx: Context, params: types.CallToolRequestParams) -> Answer:
    capabilities = ctx.session.client_capabilities
    questions: dict[str, types.InputRequest] = {}
    if capabilities and capabilities.elicitation is not None:
        questions["name"] = _form("What is your name?", "name")
    if capabilities and capabilities.sampling is not None:
        questions["greeting"] = _sample("Generate a greeting", 50)
    return types.InputRequiredResult(input_requests=questions) if questions else _says("The client can do nothing.")


# In a session of the handshake era a server asks by requests of its own.


async def _samples(ctx: Context, params: types.CallToolRequestParams) -> Answer:
    question = types.TextContent(type="text", text=str((params.arguments or {}).get("prompt")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sampling is deprecated, and so are those who call it
        said = await ctx.session.create_message(
            [types.SamplingMessage(role="user", content=question)], max_tokens=100, related_request_id=ctx.request_id
        )
    return _says(f"LLM response: {getattr(said.content, 'text', '')}")


def _elicits(**fields: Any) -> Called:
    async def call(ctx: Context, params: types.CallToolRequestParams) -> Answer:
        schema = {"type": "object", "properties": fields}
        said = await ctx.session.elicit_form("Please fill this in.", schema, related_request_id=ctx.request_id)
        return _says(f"Elicitation completed: action={said.action}, content={json.dumps(said.content)}")

    return call


TITLED = [{"const": f"value{number}", "title": f"{name} Option"} for number, name in enumerate(("First", "Second"), 1)]
OPTIONS = ["option1", "option2", "option3"]
NAME = _form("What is your name?", "name")
TOOLS: dict[str, Called] = {
    "test_audio_content": _audio,
    "test_embedded_resource": _resource,
    "test_multiple_content_types": _mixed,
    "test_missing_capability": _needs_sampling,
    "test_input_required_result_elicitation": _rounds({"user_name": NAME}, stated=False),
    "test_input_required_result_sampling": _rounds(
        {"capital_question": _sample("What is the capital of France?", 100)}, stated=False
    ),
    "test_input_required_result_list_roots": _rounds({"client_roots": _roots()}, stated=False),
    "test_input_required_result_request_state": _rounds({"confirm": _form("Please confirm", "ok", "boolean")}),
    "test_input_required_result_multiple_inputs": _rounds(
        {"user_name": NAME, "greeting": _sample("Generate a greeting", 50), "client_roots": _roots()}
    ),
    "test_input_required_result_multi_round": _rounds(
        {"step1": _form("Step 1: What is your name?", "name")},
        {"step2": _form("Step 2: What is your favorite color?", "color")},
    ),
    "test_input_required_result_capabilities": _what_the_client_can,
    "test_sampling": _samples,
    "test_elicitation_sep1034_defaults": _elicits(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    ),
    "test_elicitation_sep1330_enums": _elicits(
        untitledSingle={"type": "string", "enum": OPTIONS},
        titledSingle={"type": "string", "oneOf": TITLED},
        legacyEnum={"type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"]},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": OPTIONS}},
        titledMulti={"type": "array", "items": {"anyOf": TITLED}},
    ),
}


# Prompts and resources; those of production are there as well.


def _prompt(name: str, text: str = "", **arguments: str) -> prompts.Prompt:
    known = tuple((argument, words, True) for argument, words in arguments.items())
    return prompts.Prompt(name, name, f"What the conformance suite expects of {name}.", known, text, ())


PROMPTS = (
    _prompt("test_simple_prompt", "This is a simple prompt for testing."),
    _prompt(
        "test_prompt_with_arguments",
        "Prompt with arguments: arg1='{arg1}', arg2='{arg2}'",
        arg1="First test argument",
        arg2="Second test argument",
    ),
    _prompt("test_prompt_with_embedded_resource", resourceUri="What to embed."),
    _prompt("test_prompt_with_image"),
    _prompt("test_input_required_result_prompt"),
)
TEMPLATE = resources.Entry("test://template/{id}/data", "template", "A family of texts.", "application/json")
STATIC = (
    resources.Entry("test://static-text", "text", "A text.", "text/plain"),
    resources.Entry("test://static-binary", "binary", "A picture.", "image/png"),
)


def _messages(*content: types.ContentBlock) -> types.GetPromptResult:
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=part) for part in content])


def _special_prompt(params: types.GetPromptRequestParams) -> types.GetPromptResult | types.InputRequiredResult | None:
    """The prompts that are not one text."""
    match params.name:
        case "test_prompt_with_embedded_resource":
            uri = (params.arguments or {})["resourceUri"]
            embedded = _embedded(uri, "text/plain", "Embedded resource content for testing.")
            return _messages(
                embedded, types.TextContent(type="text", text="Please process the embedded resource above.")
            )
        case "test_prompt_with_image":
            return _messages(_picture_block(), types.TextContent(type="text", text="Please analyze the image above."))
        case "test_input_required_result_prompt":
            if "user_context" in (params.input_responses or {}):
                return _messages(types.TextContent(type="text", text="With that context."))
            question = _form("What context should the prompt use?", "context")
            return types.InputRequiredResult(input_requests={"user_context": question})
    return None


def _around(built: Server[Any], method: str, kind: type[Params], handle: Callable[..., Awaitable[Any]]) -> None:
    """Put a handler around the one of production, which it gets as its first argument."""
    entry = built.get_request_handler(method)
    assert entry and entry.params_type is kind

    async def around(ctx: Context, params: Params) -> Any:
        return await handle(entry.handler, ctx, params)

    built.add_request_handler(method, kind, around)


async def _list_tools(production: Any, ctx: Context, params: types.PaginatedRequestParams) -> types.ListToolsResult:
    listed: types.ListToolsResult = await production(ctx, params)
    nothing = {"type": "object", "properties": {}, "additionalProperties": False}
    listed.tools += [types.Tool(name=name, description=f"{name}.", input_schema=nothing) for name in TOOLS]
    return listed


async def _call_tool(production: Any, ctx: Context, params: types.CallToolRequestParams) -> Any:
    called = TOOLS.get(params.name)
    if called is None:
        return await production(ctx, params)
    answer = called(ctx, params)
    return await answer if isinstance(answer, Awaitable) else answer


async def _get_prompt(production: Any, ctx: Context, params: types.GetPromptRequestParams) -> Any:
    return _special_prompt(params) or await production(ctx, params)


def _build(*given: Any, **options: Any) -> Server[Any]:
    built = server.build(*given, **options)
    _around(built, "tools/list", types.PaginatedRequestParams, _list_tools)
    _around(built, "tools/call", types.CallToolRequestParams, _call_tool)
    _around(built, "prompts/get", types.GetPromptRequestParams, _get_prompt)
    return built


def _entries(toolbox: Toolbox, *, calls: bool) -> list[resources.Entry]:
    return [*ENTRIES(toolbox, calls=calls), *STATIC]


def _families(toolbox: Toolbox) -> list[resources.Entry]:
    return [*FAMILIES(toolbox), TEMPLATE]


async def _read(toolbox: Toolbox, uri: str, recent: Iterable[Record] | None) -> resources.Content:
    if uri == "test://static-text":
        return resources.Content("text/plain", "This is the content of the static text resource.")
    if uri == "test://static-binary":
        return resources.Content("image/png", PNG)
    if match := re.fullmatch(r"test://template/([^/]+)/data", uri):
        data = {"id": match[1], "templateTest": True, "data": f"Data for ID: {match[1]}"}
        return resources.Content("application/json", json.dumps(data))
    return await READ(toolbox, uri, recent)


ENTRIES, FAMILIES, READ = resources.entries, resources.families, resources.read


def main(sessions: bool) -> None:
    """Serve until SIGTERM. Nothing that is called here talks to a service."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(workflows, "WORKFLOWS", (*workflows.WORKFLOWS, *WORKFLOWS)),
        patch.object(prompts, "PROMPTS", (*prompts.PROMPTS, *PROMPTS)),
        patch.object(resources, "entries", _entries),
        patch.object(resources, "families", _families),
        patch.object(resources, "read", _read),
        patch.object(http, "build", _build),
    ):
        http.serve(lambda: own_apis(Settings(download_dir=Path(folder))), Http(), "127.0.0.1", 0, sessions=sessions)


if __name__ == "__main__":
    main("--sessions" in sys.argv)
