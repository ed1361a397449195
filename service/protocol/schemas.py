"""The protocol's JSON as OpenAPI shows it; `request.py` holds requests to the same."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.protocol.request import InferBody

_EXAMPLE = {
    "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": ["iVBORw0KGgo..."]}],
    "outputs": [{"name": "probabilities", "parameters": {"classification": 5}}],
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}

# As they are named among the components of OpenAPI.
SCHEMAS: dict[str, Any] = {"InferBody": InferBody.model_json_schema(ref_template="#/components/schemas/{model}")}
SCHEMAS |= SCHEMAS["InferBody"].pop("$defs")

INFER_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/InferBody"}, "example": _EXAMPLE},
            "application/octet-stream": _BINARY,
        },
    },
}
INFER_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The outputs, as JSON; behind it those that were asked for as `binary_data`.",
        "content": {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": _BINARY},
    },
    400: {"description": "Not an image, or a malformed body."},
    413: {"description": "Too large, or too many images."},
    415: {"description": "A compressed body."},
    504: {"description": "The deadline passed."},
}


class IndexRequest(BaseModel):
    model_config = ConfigDict(extra="ignore")

    ready: bool = Field(False, strict=True)
