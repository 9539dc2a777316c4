"""A checked result as an agent gets it: structured content and equally complete compact text, secrets kept back, large parts on disk."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from isocenter.core import Credentials, Result
from isocenter.core.schema import children, lookup
from isocenter.core.tool import Tool

LONG = 4000  # characters of one text value from which it is cut
IMAGE_BYTES = 700_000  # images above this are named by path only: hosts refuse results over 1 MB
MAX_IMAGES = 4
NOTED = (
    "location",
    "link",
    "x-total-count",
)  # headers that lead on: where the new thing is, the next page, how many in all


@dataclass(frozen=True, slots=True)
class Link:
    """A resource that belongs to a result: hosts may read it later, by its URI. `size` in bytes."""

    uri: str
    name: str
    media_type: str
    size: int | None = None


@dataclass(slots=True)
class Presentation:
    """`structured` is None when images are shown: hosts that see structured content drop everything else."""

    text: str
    structured: dict[str, Any] | None
    images: list[tuple[bytes, str]] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)


def present(
    tool: Tool, result: Result[Any], credentials: Credentials, hide: Callable[[str], str], folder: Path
) -> Presentation:
    """Keeps secrets of the answer as credentials, saves what is too large to show below `folder`, and lays out the rest.

    `hide` takes the secrets out of a text. An answer that is not as documented (it got here because the check is off or only
    reports) stands under `undocumented` instead of `data`: clients refuse what does not fit the advertised schema.
    """
    body: dict[str, Any] = {"status": result.status}
    images: list[tuple[bytes, str]] = []
    links: list[Link] = []
    if result.file:
        body["file"] = {
            "path": str(result.file.path),
            "size": result.file.size,
            "sha256": result.file.sha256,
            "media_type": result.file.media_type,
        }
    elif result.data is not None:
        data = hidden(keep_secrets(tool, result, credentials), hide)
        data, images, saved = _images(tool, result, data, folder)
        shown, total = _rows(tool, data)
        shown, cut = _shortened(shown)
        body["data"] = shown
        if total is not None:
            body["total"] = total
        if saved:
            body["images"] = saved
        if cut or (total is not None and _hides(tool, data, total)):
            path, links = save_answer(folder, tool.name, data)
            body["all"] = str(path)
    if noted := {name: hide(value) for name, value in (result.headers or {}).items() if name in NOTED}:
        body["headers"] = noted
    if result.findings:
        body["findings"] = [finding.as_dict() for finding in result.findings]
    text = "\n".join([_text(tool, body), *mentions(links)])
    if images or shows_images(tool):
        return Presentation(text, None, images, links)
    if "data" in body and not _promise(tool).is_valid(body):
        body["undocumented"] = body.pop("data")
    return Presentation(text, body, images, links)


@cache
def _promise(tool: Tool) -> Any:
    """The compiled form of the output schema that clients hold results against."""
    import jsonschema_rs

    return jsonschema_rs.validator_for(tool.output_schema)


def hidden(value: Any, hide: Callable[[str], str]) -> Any:
    """JSON with `hide` applied to every text in it: a copy, or the value itself where nothing is to be hidden."""
    together = "\0".join(_texts(value))  # one look at all of them: nearly always there is nothing
    return value if hide(together) == together else _hidden(value, hide)


def _texts(value: Any) -> Iterator[str]:
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            left += item
        elif isinstance(item, dict):
            yield from item
            left += item.values()


def _hidden(value: Any, hide: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list):
        return [_hidden(item, hide) for item in value]
    if isinstance(value, dict):
        return {hide(key): _hidden(item, hide) for key, item in value.items()}
    return value


@cache
def shows_images(tool: Tool) -> bool:
    """Whether answers of this tool may hold images; such tools promise no structured content."""
    return any(
        next(iter(_annotated(tool, content.schema, _is_image)), None) is not None
        for answer in tool.operation.answers.values()
        for content in answer.contents
        if content.schema
    )


def keep_secrets(tool: Tool, result: Result[Any], credentials: Credentials) -> Any:
    """The data with every `x-secret` value taken out; those that open the same API are used from now on."""
    content = _content(tool, result)
    if not content:
        return result.data
    data = result.data
    for template, name in _secrets(tool, content):

        def hide(value: Any, name: str = name) -> Any:
            if not isinstance(value, str) or not value:
                return value
            if name:
                credentials.keep(name, value)
                return f"(not shown; used from now on as {name})" if credentials.lasting else "(not shown; not kept)"
            return "(not shown)"

        data = _changed(data, template, hide)
    return data


@cache
def _secrets(tool: Tool, at: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """`(path template, credential name or nothing)` of every secret below the schema of an answer."""
    found = _annotated(tool, at, lambda schema: bool(schema.get("x-secret")))
    return tuple((template, str(schema.get("x-credential", ""))) for template, schema in found)


@cache
def _image_places(tool: Tool, at: str) -> tuple[tuple[str, ...], ...]:
    """Path templates of every image below the schema of an answer."""
    return tuple(dict.fromkeys(template for template, _ in _annotated(tool, at, _is_image)))


@cache
def hands_out_credentials(tool: Tool) -> bool:
    """Whether an answer of this tool may hold a secret that opens the API afterwards."""
    return any(
        next(iter(_annotated(tool, content.schema, lambda schema: bool(schema.get("x-credential")))), None) is not None
        for answer in tool.operation.answers.values()
        for content in answer.contents
        if answer.success and content.schema
    )


def _content(tool: Tool, result: Result[Any]) -> str:
    answer = tool.operation.answer(result.status)
    content = answer.content(result.media_type) if answer else None
    return content.schema if content else ""


def _is_image(schema: dict[str, Any]) -> bool:
    return schema.get("contentEncoding") == "base64" and str(schema.get("contentMediaType", "")).startswith("image/")


def _annotated(tool: Tool, at: str, wanted: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """`(path template, schema)` of every place below a schema that `wanted` picks."""
    document = tool.operation.contract.document

    def visit(
        schema: Any, path: tuple[str, ...], seen: frozenset[str]
    ) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
        if not isinstance(schema, dict):
            return
        if wanted(schema):
            yield path, schema
        ref = schema.get("$ref")
        if isinstance(ref, str) and ref not in seen:
            yield from visit(lookup(document, ref), path, seen | {ref})
        for step, child in children(schema):
            if step[0] == "properties":
                yield from visit(child, (*path, step[1]), seen)
            elif step[0] == "items":
                yield from visit(child, (*path, "*"), seen)
            elif step[0] in ("allOf", "anyOf", "oneOf"):
                yield from visit(child, path, seen)

    yield from visit(lookup(document, at), (), frozenset())


def _changed(data: Any, template: tuple[str, ...], change: Any) -> Any:
    """A copy of `data` with `change` applied wherever the template leads."""
    if not template:
        return change(data)
    if template[0] == "*" and isinstance(data, list):
        return [_changed(item, template[1:], change) for item in data]
    if isinstance(data, dict) and template[0] in data:
        return {**data, template[0]: _changed(data[template[0]], template[1:], change)}
    return data


def _images(tool: Tool, result: Result[Any], data: Any, folder: Path) -> tuple[Any, list[tuple[bytes, str]], list[str]]:
    content = _content(tool, result)
    images: list[tuple[bytes, str]] = []
    saved: list[str] = []
    if not content:
        return data, images, saved

    def take(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            pixels = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            return value
        kinds = ((b"\x89PNG", "png"), (b"\xff\xd8", "jpeg"), (b"GIF8", "gif"))
        kind = next((name for magic, name in kinds if pixels.startswith(magic)), "")
        if not kind:
            return value
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{tool.name}-{uuid.uuid4().hex[:12]}.{kind}"
        path.write_bytes(pixels)
        saved.append(str(path))
        if len(pixels) <= IMAGE_BYTES and len(images) < MAX_IMAGES:
            images.append((pixels, f"image/{kind}"))
        return str(path)

    for template in _image_places(tool, content):
        data = _changed(data, template, take)
    return data, images, saved


def _list_of(data: Any) -> list[Any] | None:
    """The rows of an answer: itself, or the `items` of an envelope."""
    if isinstance(data, list):
        return data
    return data["items"] if isinstance(data, dict) and isinstance(data.get("items"), list) else None


def _rows(tool: Tool, data: Any) -> tuple[Any, int | None]:
    rows = _list_of(data)
    if rows is None:
        return data, None
    shown = [_projected(tool, row) for row in rows[: tool.rows]]
    return (shown if isinstance(data, list) else {**data, "items": shown}), len(rows)


def _projected(tool: Tool, row: Any) -> Any:
    if not tool.show or not isinstance(row, dict):
        return row
    return {name: row[name] for name in tool.show if name in row} or row


def _hides(tool: Tool, data: Any, total: int) -> bool:
    rows = _list_of(data) or []
    return total > tool.rows or any(isinstance(row, dict) and _projected(tool, row) != row for row in rows[: tool.rows])


def _shortened(data: Any) -> tuple[Any, bool]:
    """The data with long texts cut and a note of how long they were, and whether there were any."""
    cut = False

    def short(value: Any) -> Any:
        nonlocal cut
        if isinstance(value, str):
            if len(value) <= LONG:
                return value
            cut = True
            return f"{value[:LONG]}… ({len(value)} characters in all)"
        if isinstance(value, list):
            return [short(item) for item in value]
        if isinstance(value, dict):
            return {key: short(item) for key, item in value.items()}
        return value

    return short(data), cut


def save_answer(folder: Path, name: str, data: Any) -> tuple[Path, list[Link]]:
    """The whole of a long answer on disk: JSON (or text), and for rows a CSV beside it. Returns the first file and links to all.

    The links are `isocenter://answers/<file name>`; names cannot be guessed, and files can be read by their owner only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{uuid.uuid4().hex[:12]}"
    files: list[tuple[str, str, bytes]] = []
    if isinstance(data, str):
        files.append((f"{stem}.txt", "text/plain", data.encode("utf-8", "surrogatepass")))
    else:
        files.append((f"{stem}.json", "application/json", msgspec.json.format(msgspec.json.encode(data))))
    rows = _list_of(data)
    if rows and all(isinstance(row, dict) for row in rows):
        sheet = io.StringIO(newline="")
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = csv.writer(sheet)
        table.writerow(columns)
        table.writerows([[_cell(row.get(column)) for column in columns] for row in rows])
        files.append((f"{stem}.csv", "text/csv", sheet.getvalue().encode("utf-8", "surrogatepass")))
    for file, _, content in files:
        path = folder / file
        path.touch(0o600)
        path.write_bytes(content)
    return folder / files[0][0], [
        Link(f"isocenter://answers/{file}", file, media_type, len(content)) for file, media_type, content in files
    ]


def mentions(links: list[Link]) -> list[str]:
    """Links as a line of text, for hosts that show no resource links."""
    return [f"Resources: {', '.join(link.uri for link in links)}"] if links else []


def table_text(rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
    """Rows as lines with tabs, the columns first."""
    return ["\t".join(columns), *("\t".join(_cell(row.get(name)) for name in columns) for row in rows)]


def _text(tool: Tool, body: dict[str, Any]) -> str:
    lines = [f"{tool.title}: status {body['status']}."]
    if file := body.get("file"):
        lines.append(f"Saved {file['path']} ({file['size']} bytes, {file['media_type']}, sha256 {file['sha256']}).")
    data = body.get("data")
    rows = _list_of(data)
    if rows is not None and rows and all(isinstance(row, dict) for row in rows):
        rest = {key: value for key, value in data.items() if key != "items"} if isinstance(data, dict) else {}
        if rest:
            lines.append(_compact(rest))
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines += table_text(rows, columns)
        if body["total"] > len(rows):
            lines.append(f"{len(rows)} of {body['total']} rows.")
    elif data is not None:
        lines.append(data if isinstance(data, str) else "No rows." if data == [] else _compact(data))
    if noted := body.get("headers"):
        lines.append("; ".join(f"{name}: {value}" for name, value in noted.items()))
    if body.get("images"):
        lines.append("Images: " + ", ".join(body["images"]))
    if body.get("all"):
        lines.append(f"Everything: {body['all']}")
    for finding in body.get("findings", []):
        lines.append(
            f"Note ({finding['severity']}): {finding['pointer'] or '/'}: expected {finding['expected']}. [{finding['spec']}]"
        )
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = "" if value is None else value if isinstance(value, str) else _compact(value)
    return text if text.isprintable() else re.sub(r"[\t\r\n]+", " ", text)


def _compact(value: Any) -> str:
    return msgspec.json.encode(value).decode()
