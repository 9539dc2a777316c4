"""MCP to pipeline and back. The only module that knows the SDK's types; serves both protocol eras from two handlers."""

from __future__ import annotations

import base64
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from mcp import MCPError, types
from mcp.server import CacheHint, Server, ServerRequestContext
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity

from isocenter import __version__
from isocenter.agent.pipeline import Pipeline
from isocenter.agent.present import Presentation, shows_images
from isocenter.agent.toolbox import Toolbox
from isocenter.core import InvalidRequest, IsocenterError
from isocenter.core.operation import suggest
from isocenter.core.tool import Tool

log = logging.getLogger("isocenter.server")

MODERN = "2026-07-28"
FORM = {
    "type": "object",
    "properties": {
        "confirm": {"type": "boolean", "title": "Go ahead?", "description": "True only if this is what you want."}
    },
    "required": ["confirm"],
}
Ready = Callable[[], Awaitable[None]]


class _Ask(Exception):
    """Leaves a stateless call with a question for the client to put to its person."""

    def __init__(self, result: types.InputRequiredResult) -> None:
        super().__init__("a person is asked")
        self.result = result


async def _ready() -> None:
    """Nothing to wait for."""


def described(tool: Tool) -> types.Tool:
    """A tool as `tools/list` shows it."""
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=None if shows_images(tool) else tool.output_schema,
        annotations=types.ToolAnnotations(
            title=tool.title,
            read_only_hint=tool.effect == "read",
            destructive_hint=tool.effect == "destroy",
            idempotent_hint=tool.effect == "read" or tool.idempotent,
            open_world_hint=True,
        ),
    )


def build(
    toolbox: Toolbox,
    *,
    ready: Ready = _ready,
    around: Callable[[], AbstractAsyncContextManager[None]] | None = None,
) -> Server[Any]:
    """The server over a toolbox. `ready` is awaited before each call, `around` is entered for as long as the server runs."""
    pipeline = Pipeline(toolbox)
    listed = [described(tool) for tool in toolbox.tools.values()]
    schemas = {tool.name: tool.input_schema for tool in listed}

    async def list_tools(
        _: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        if params and params.cursor:
            raise MCPError(types.INVALID_PARAMS, "There is one page of tools.")
        return types.ListToolsResult(tools=listed)

    async def call_tool(
        ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        tool = toolbox.tools.get(params.name)
        if tool is None:
            raise MCPError(
                types.INVALID_PARAMS, f"Unknown tool: {params.name}. {suggest(params.name, toolbox.tools)}".rstrip()
            )

        async def progress(done: int, total: int | None) -> None:
            size = f"{done / 1e6:.1f} MB" + (f" of {total / 1e6:.1f} MB" if total else "")
            await ctx.session.report_progress(done, total, size)

        try:
            await ready()
            presentation = await pipeline.run(
                tool, params.arguments or {}, lambda question: _confirm(ctx, params, question), progress
            )
            return _result(presentation)
        except _Ask as ask:
            return ask.result
        except IsocenterError as error:
            return _failure(toolbox.hide(_told(tool, error)))
        except Exception:
            reference = uuid.uuid4().hex[:8]
            log.exception("%s failed unexpectedly, reference %s", tool.name, reference)
            return _failure(
                f"{tool.name} failed inside this server (reference {reference}); the server's log has the reason."
            )

    def _result(presentation: Presentation) -> types.CallToolResult:
        text = toolbox.hide(presentation.text)
        content: list[types.ContentBlock] = [types.TextContent(type="text", text=text)]
        for pixels, media_type in presentation.images:
            content.append(
                types.ImageContent(type="image", data=base64.b64encode(pixels).decode(), mime_type=media_type)
            )
        return types.CallToolResult(content=content, structured_content=presentation.structured)

    @asynccontextmanager
    async def lifespan(_: Server[Any]) -> AsyncIterator[None]:
        try:
            if around:
                async with around():
                    yield
            else:
                yield
        finally:
            await toolbox.aclose()

    server: Server[Any] = Server(
        "isocenter",
        version=__version__,
        title="Isocenter medical imaging",
        instructions="\n".join(toolbox.instructions) or None,
        lifespan=lifespan,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=schemas.get,
        cache_hints={"tools/list": CacheHint(ttl_ms=3_600_000, scope="public")},
    )
    # Answers to our questions come back with the question sealed inside, bound to this request's tool and arguments.
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=server.name))
    return server


def _told(tool: Tool, error: IsocenterError) -> str:
    """The error for a model: what was wrong, what would do, what next."""
    text = f"{error.code}: {error}"
    if isinstance(error, InvalidRequest):
        text += f"\nCorrect the arguments and call {tool.name} again."
    elif error.retryable:
        text += "\nThe same call may succeed later."
    return text


def _failure(text: str) -> types.CallToolResult:
    return types.CallToolResult(is_error=True, content=[types.TextContent(type="text", text=text)])


def _can_ask(ctx: ServerRequestContext[Any]) -> bool:
    capabilities = ctx.session.client_capabilities
    elicitation = capabilities.elicitation if capabilities else None
    if elicitation is None or (elicitation.form is None and elicitation.url is not None):
        return False  # a client that only opens addresses cannot show a form
    return ctx.protocol_version >= MODERN or ctx.session.can_send_request


async def _confirm(ctx: ServerRequestContext[Any], params: types.CallToolRequestParams, question: str) -> bool | None:
    """The person's answer, None when the client cannot ask, or _Ask to leave with the question (2026-07-28)."""
    if not _can_ask(ctx):
        return None
    if ctx.protocol_version < MODERN:
        answer: Any = await ctx.session.elicit_form(question, FORM, related_request_id=ctx.request_id)
    else:
        answer = (params.input_responses or {}).get("confirm")
        if not isinstance(answer, types.ElicitResult) or params.request_state != question:
            form = types.ElicitRequestFormParams(message=question, requested_schema=FORM)
            request = types.ElicitRequest(params=form)
            raise _Ask(types.InputRequiredResult(input_requests={"confirm": request}, request_state=question))
    return bool(answer.action == "accept" and (answer.content or {}).get("confirm") is True)
