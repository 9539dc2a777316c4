"""The request schemas of the CIRCUS DB API as plain data, for `validation`.

The field rules are those of the reference, section 3. `STRICT` holds stricter variants of what the real server
accepts and then fails on; they apply with `Options.strict`.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

STRING: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer"}
STRINGS: Schema = {"type": "array", "items": STRING}

PARTIAL_VOLUME: Schema = {
    "type": "object",
    "properties": {"start": NUMBER, "end": NUMBER, "delta": NUMBER},
    "additionalProperties": False,
    "required": ["start", "end"],
}


def _series(**more: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {"seriesUid": {"type": "string", "format": "dicomUid"}, **more},
        "additionalProperties": False,
    }


SERIES_ENTRY = _series(partialVolumeDescriptor={"$ref": "partialVolumeDescriptor"}) | {
    "required": ["seriesUid", "partialVolumeDescriptor"]
}
SERIES_ENTRY_WITH_AUTO = _series(
    partialVolumeDescriptor={"oneOf": [{"const": "auto"}, {"$ref": "partialVolumeDescriptor"}]}
) | {"required": ["seriesUid", "partialVolumeDescriptor"]}
REVISION_SERIES = _series(
    partialVolumeDescriptor={"$ref": "partialVolumeDescriptor"}, labels={"type": "array", "items": {"$ref": "label"}}
) | {"required": ["seriesUid", "labels"]}

REVISION: Schema = {
    "type": "object",
    "properties": {
        "creator": STRING,
        "date": {"date": True},
        "description": STRING,
        "attributes": {"type": "object"},
        "status": STRING,
        "series": {"type": "array", "items": {"$ref": "revisionSeriesEntry"}},
    },
    "additionalProperties": False,
    "required": ["description", "attributes", "status", "series"],
}


def _numbers(count: int) -> Schema:
    return {"type": "array", "items": NUMBER, "minItems": count, "maxItems": count}


_TRIPLE: Schema = {"type": "array", "items": [NUMBER, NUMBER, NUMBER]}
_VOXELS: Schema = {"type": "array", "items": [INTEGER, INTEGER, INTEGER]}


def _label(types: list[str], properties: Schema, required: list[str]) -> Schema:
    data = {"type": "object", "properties": properties, "required": required}
    return {"properties": {"type": {"enum": types}, "data": data}}


LABEL: Schema = {
    "type": "object",
    "required": ["type", "data"],
    "properties": {
        "name": {"oneOf": [STRING, {"type": "null"}]},
        "data": {
            "type": "object",
            "properties": {
                "color": {"type": "string", "pattern": "^#[0-9a-f]{6,6}$"},
                "alpha": {"type": "number", "minimum": 0, "maximum": 1},
            },
        },
        "attributes": {"type": "object"},
        "type": STRING,
    },
    "oneOf": [
        _label(
            ["voxel"],
            {
                "voxels": {"oneOf": [{"type": "string", "format": "sha1hex"}, {"type": "null"}]},
                "origin": _VOXELS,
                "size": _VOXELS,
            },
            ["voxels"],
        ),
        _label(["cuboid", "ellipsoid"], {"min": _numbers(3), "max": _numbers(3)}, ["min", "max"]),
        _label(["rectangle", "ellipse"], {"min": _numbers(2), "max": _numbers(2), "z": NUMBER}, ["min", "max", "z"]),
        _label(
            ["polyline"],
            {
                "points": {"type": "array", "items": {"type": "array", "items": [NUMBER, NUMBER]}, "minItems": 1},
                "z": NUMBER,
            },
            ["points", "z"],
        ),
        _label(["point"], {"location": _numbers(3)}, ["location"]),
        _label(
            ["ruler"],
            {
                "section": {"type": "object", "properties": {"origin": _TRIPLE, "xAxis": _TRIPLE, "yAxis": _TRIPLE}},
                "start": _TRIPLE,
                "end": _TRIPLE,
                "labelPosition": _TRIPLE,
            },
            ["section", "start", "end"],
        ),
    ],
    "additionalProperties": False,
}

MY_LIST_EDITOR: Schema = {
    "type": "object",
    "oneOf": [
        {
            "properties": {"type": {"const": "user"}, "userEmail": STRING},
            "required": ["type", "userEmail"],
            "additionalProperties": False,
        },
        {
            "properties": {"type": {"const": "group"}, "groupId": NUMBER},
            "required": ["type", "groupId"],
            "additionalProperties": False,
        },
    ],
}

DEFINITIONS: dict[str, Schema] = {
    "partialVolumeDescriptor": PARTIAL_VOLUME,
    "seriesEntry": SERIES_ENTRY,
    "seriesEntryWithAutoPvd": SERIES_ENTRY_WITH_AUTO,
    "revisionSeriesEntry": REVISION_SERIES,
    "label": LABEL,
    "myListEditor": MY_LIST_EDITOR,
}

CASE_CREATE: Schema = {
    "type": "object",
    "properties": {
        "projectId": STRING,
        # `minLength` says nothing about arrays: the real server accepts an empty one.
        "series": {"type": "array", "items": {"$ref": "seriesEntryWithAutoPvd"}, "minLength": 1},
        "tags": STRINGS,
    },
    "additionalProperties": False,
}
CASE_CREATE_STRICT: Schema = {
    **CASE_CREATE,
    "properties": {
        **CASE_CREATE["properties"],
        "series": {"type": "array", "items": {"$ref": "seriesEntryWithAutoPvd"}, "minItems": 1},
    },
    "required": ["projectId", "series", "tags"],
}

TAGS_PATCH: Schema = {
    "type": "object",
    "properties": {
        "operation": {"enum": ["add", "remove", "set"]},
        "tags": STRINGS,
        "caseIds": {"type": "array", "items": STRING, "minItems": 1},
    },
    "required": ["operation", "tags", "caseIds"],
}

EXPORT_MHD: Schema = {
    "type": "object",
    "properties": {
        "caseIds": {
            "type": "array",
            "items": {
                "oneOf": [
                    STRING,
                    {
                        "type": "object",
                        "properties": {"caseId": STRING, "revisionIndex": {"type": "integer", "minimum": 0}},
                    },
                ]
            },
            "maxItems": 100,
        },
        "labelPackType": {"enum": ["isolated", "combined"]},
        "mhdLineEnding": {"enum": ["lf", "crlf"]},
        "compressionFormat": {"enum": ["tgz", "zip"]},
    },
    "required": ["caseIds"],
}

EXPORT_VOLUME: Schema = {
    "type": "object",
    "properties": {
        "series": {"type": "array", "items": {"$ref": "seriesEntry"}, "minItems": 1, "maxItems": 10},
        "compressionFormat": {"enum": ["tgz", "zip"]},
    },
    "required": ["series"],
}

TOKEN_CREATE: Schema = {
    "type": "object",
    "properties": {"description": {"type": "string", "minLength": 1, "maxLength": 32}},
    "required": ["description"],
    "additionalProperties": False,
}

_LIST_NAME: Schema = {"type": "string", "minLength": 1, "maxLength": 64}
MY_LIST_CREATE: Schema = {
    "properties": {
        "name": _LIST_NAME,
        "resourceType": {"enum": ["series", "clinicalCases", "pluginJobs"]},
        "public": {"type": "boolean"},
    },
    "required": ["name", "resourceType", "public"],
}
MY_LIST_PATCH: Schema = {
    "type": "object",
    "properties": {
        "name": _LIST_NAME,
        "public": {"type": "boolean"},
        "editors": {"type": "array", "items": {"$ref": "myListEditor"}},
    },
    "additionalProperties": False,
    "minProperties": 1,
}
MY_LIST_ITEMS: Schema = {
    "type": "object",
    "properties": {
        "operation": {"enum": ["add", "remove"]},
        "resourceIds": {"type": "array", "items": STRING, "minItems": 1, "maxItems": 1000},
    },
    "required": ["operation", "resourceIds"],
}
