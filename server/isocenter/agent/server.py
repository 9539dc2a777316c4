"""MCP to the dispatcher and back. The only module that knows the SDK's types; serves both protocol eras from two handlers."""

from __future__ import annotations

import base64
import logging
import traceback
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from mcp import MCPError, types
from mcp.server import CacheHint, Server, ServerRequestContext
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity

from isocenter import __version__
from isocenter.agent import prompts, resources
from isocenter.agent.audit import RECENT, Record
from isocenter.agent.completions import Completions
from isocenter.agent.discover import HOW, Discovery, again
from isocenter.agent.dispatch import Dispatcher
from isocenter.agent.present import Presentation, shows_images
from isocenter.agent.toolbox import Toolbox
from isocenter.agent.workflows import Workflow, archive, offered, usage
from isocenter.core import IsocenterError, MissingCredentials
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


class Callers:
    """Who calls. Here it is one person with the whole toolbox; `agent.http` tells several apart and gives each a view of it."""

    def __init__(self, toolbox: Toolbox) -> None:
        self.everything = toolbox

    def may_use(self, ctx: ServerRequestContext[Any], tool: Tool | Workflow) -> bool:
        """Whether the caller is offered this tool."""
        return True

    def toolbox(self, ctx: ServerRequestContext[Any]) -> Toolbox:
        """Tools, credentials and folders for this one request. Raises IsocenterError for a request that cannot be served."""
        return self.everything


async def _ready() -> None:
    """Nothing to wait for."""


def described(tool: Tool | Workflow) -> types.Tool:
    """A tool as `tools/list` shows it."""
    images = isinstance(tool, Tool) and shows_images(tool)
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.input_schema,
        output_schema=None if images else tool.output_schema,
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
    callers: Callers | None = None,
    security: RequestStateSecurity | None = None,
) -> Server[Any]:
    """The server over a toolbox. `ready` is awaited before each call, `around` is entered for as long as the server runs.

    `callers` decides what each request may use; `security` seals questions that another process may get the answer to.
    Where the toolbox says `discover`, three tools stand for all.
    """
    recent: deque[Record] = deque(maxlen=RECENT)
    shared, callers = callers is None, callers or Callers(toolbox)
    tools: dict[str, Tool | Workflow] = {**offered(toolbox), **toolbox.tools}
    listed = [described(tool) for tool in tools.values()]
    discovery = Discovery(listed) if toolbox.discover else None
    schemas = {tool.name: tool.input_schema for tool in (discovery.offered if discovery else listed)}

    def allowed(ctx: ServerRequestContext[Any]) -> list[types.Tool]:
        return [tool for tool in listed if callers.may_use(ctx, tools[tool.name])]

    async def list_tools(
        ctx: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        if params and params.cursor:
            raise MCPError(types.INVALID_PARAMS, "There is one page of tools.")
        return types.ListToolsResult(tools=discovery.offered if discovery else allowed(ctx))

    async def call_tool(
        ctx: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult:
        if discovery:
            step = discovery.step(params, allowed(ctx))
            if isinstance(step, types.CallToolResult):
                return step
            params = step
        tool = tools.get(params.name)
        if tool is None or not callers.may_use(ctx, tool):
            known = [name for name, tool in tools.items() if callers.may_use(ctx, tool)]
            raise MCPError(types.INVALID_PARAMS, f"Unknown tool: {params.name}. {suggest(params.name, known)}".rstrip())
        said = -1.0

        async def report(done: float, total: float | None, words: str) -> None:
            nonlocal said
            if done > said:  # the protocol wants it to rise
                said = done
                await ctx.session.report_progress(done, total, words)

        async def progress(done: int, total: int | None) -> None:
            await report(done, total, f"{done / 1e6:.1f} MB" + (f" of {total / 1e6:.1f} MB" if total else ""))

        async def confirm(question: str) -> bool | None:
            return await _confirm(ctx, params, question)

        box = toolbox
        try:
            await ready()
            box = callers.toolbox(ctx)
            dispatcher, arguments = Dispatcher(box, recent), params.arguments or {}
            if isinstance(tool, Workflow):
                return _result(await dispatcher.perform(tool, arguments, confirm, report), box)
            return _result(await dispatcher.run(tool, arguments, confirm, progress), box)
        except _Ask as ask:
            return ask.result
        except IsocenterError as error:
            return _failure(box.hide(_told(tool, error, box, again(tool.name) if discovery else tool.name)))
        except Exception:
            # Left alone its text would go to the client, and to the model behind it; the operator gets it, secrets hidden.
            reference = uuid.uuid4().hex[:8]
            reason = box.hide(traceback.format_exc())
            log.error("%s failed unexpectedly, reference %s\n%s", tool.name, reference, reason)
            return _failure(
                f"{tool.name} failed inside this server (reference {reference}); the server's log has the reason."
            )

    def _result(presentation: Presentation, box: Toolbox) -> types.CallToolResult:
        text = box.hide(presentation.text)
        content: list[types.ContentBlock] = [types.TextContent(type="text", text=text)]
        for pixels, media_type in presentation.images:
            content.append(
                types.ImageContent(type="image", data=base64.b64encode(pixels).decode(), mime_type=media_type)
            )
        for link in presentation.links:
            content.append(
                types.ResourceLink(
                    type="resource_link", uri=link.uri, name=link.name, mime_type=link.media_type, size=link.size
                )
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
        instructions="\n".join([*([HOW] if discovery else []), *usage(toolbox), *toolbox.instructions]) or None,
        lifespan=lifespan,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=schemas.get,
        **_context(toolbox, callers, ready, recent if shared else None),
        cache_hints={"tools/list": CacheHint(ttl_ms=3_600_000, scope="public" if shared else "private")},
    )
    # Answers to our questions come back with the question sealed inside, bound to this request's tool and arguments.
    server.middleware.append(
        RequestStateBoundary(security or RequestStateSecurity.ephemeral(), default_audience=server.name)
    )
    return server


def _context(toolbox: Toolbox, callers: Callers, ready: Ready, recent: Collection[Record] | None) -> dict[str, Any]:
    """The handlers for what a client puts into a conversation besides tools: resources, prompts and completions.

    `recent` are the calls of this session, None where several callers share the server. Series, answers and values are for callers
    who may use the tools that show them.
    """
    prompted = prompts.offered(toolbox)
    completions = Completions()

    def named(entry: resources.Entry) -> dict[str, Any]:
        return {"name": entry.name, "description": entry.description, "mime_type": entry.media_type}

    async def list_resources(_: ServerRequestContext[Any], __: Any) -> types.ListResourcesResult:
        found = resources.entries(toolbox, calls=recent is not None)
        return types.ListResourcesResult(resources=[types.Resource(uri=entry.uri, **named(entry)) for entry in found])

    async def list_templates(_: ServerRequestContext[Any], __: Any) -> types.ListResourceTemplatesResult:
        found = resources.families(toolbox)
        return types.ListResourceTemplatesResult(
            resource_templates=[types.ResourceTemplate(uri_template=entry.uri, **named(entry)) for entry in found]
        )

    async def read_resource(
        ctx: ServerRequestContext[Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        try:
            await ready()
            if not callers.may_use(ctx, archive.FIND):
                raise MCPError(types.INVALID_PARAMS, "Resources need the scope for reading.", {"uri": params.uri})
            content = await resources.read(callers.toolbox(ctx), params.uri, recent)
        except IsocenterError as error:
            raise MCPError(types.INVALID_PARAMS, toolbox.hide(str(error)), {"uri": params.uri}) from error
        if isinstance(content.data, str):
            text = types.TextResourceContents(uri=params.uri, mime_type=content.media_type, text=content.data)
            return types.ReadResourceResult(contents=[text])
        blob = base64.b64encode(content.data).decode()
        return types.ReadResourceResult(
            contents=[types.BlobResourceContents(uri=params.uri, mime_type=content.media_type, blob=blob)]
        )

    async def list_prompts(_: ServerRequestContext[Any], __: Any) -> types.ListPromptsResult:
        return types.ListPromptsResult(
            prompts=[
                types.Prompt(
                    name=prompt.name,
                    title=prompt.title,
                    description=prompt.description,
                    arguments=[
                        types.PromptArgument(name=name, description=description, required=required)
                        for name, description, required in prompt.arguments
                    ],
                )
                for prompt in prompted.values()
            ]
        )

    async def get_prompt(_: ServerRequestContext[Any], params: types.GetPromptRequestParams) -> types.GetPromptResult:
        try:
            text = prompts.filled(prompted, params.name, params.arguments or {})
        except IsocenterError as error:
            raise MCPError(types.INVALID_PARAMS, str(error)) from error
        message = types.PromptMessage(role="user", content=types.TextContent(type="text", text=text))
        return types.GetPromptResult(description=prompted[params.name].description, messages=[message])

    async def complete(ctx: ServerRequestContext[Any], params: types.CompleteRequestParams) -> types.CompleteResult:
        await ready()
        if not callers.may_use(ctx, archive.FIND):
            return types.CompleteResult(completion=types.Completion(values=[], total=0, has_more=False))
        values, total = await completions.values(callers.toolbox(ctx), params.argument.name, params.argument.value)
        return types.CompleteResult(
            completion=types.Completion(values=values, total=total, has_more=total > len(values))
        )

    handlers: dict[str, Any] = {
        "on_list_resources": list_resources,
        "on_list_resource_templates": list_templates,
        "on_read_resource": read_resource,
        "on_completion": complete,
    }
    if prompted:  # nobody is shown an empty list
        handlers |= {"on_list_prompts": list_prompts, "on_get_prompt": get_prompt}
    return handlers


def _told(tool: Tool | Workflow, error: IsocenterError, box: Toolbox, call: str) -> str:
    """The error for a model: what was wrong, what would do, and what to call next."""
    text, status = f"{error.code}: {error}", getattr(error, "status", None)
    if error.code == "invalid_request" or status in (400, 422):
        return f"{text}\nCorrect the arguments and call {call} again."
    if isinstance(error, MissingCredentials) and box.on_missing:
        return f"{text} {box.on_missing}"
    if isinstance(error, MissingCredentials) or status in (401, 403):
        return f"{text}\nAsk the operator to check the credentials; `isocenter doctor` says what is missing."
    if status == 404 and (finders := _finders(tool, box)):
        return f"{text}\nLook the identifier up with {' or '.join(finders)}, then call {call} again."
    if error.retryable:
        return f"{text}\nThe same call may succeed later."
    return text


def _finders(tool: Tool | Workflow, box: Toolbox) -> list[str]:
    """Up to three tools of the same API that find what a tool needs an identifier of, everyday ones first."""
    if not isinstance(tool, Tool):
        return []
    found = [
        other
        for other in box.tools.values()
        if isinstance(other, Tool)
        and other is not tool
        and other.operation.contract is tool.operation.contract
        and other.name.startswith(("search_", "list_"))
    ]
    return [other.name for other in sorted(found, key=lambda other: not other.default)[:3]]


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
