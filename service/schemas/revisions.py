"""Revisions of datasets: the body that asks for one, and what is answered."""

from typing import Any

from workers.contract.revisions import RevisionOptions

_REVISION = RevisionOptions.model_json_schema(ref_template="#/components/schemas/{model}")
REVISION_SCHEMAS: dict[str, Any] = {**_REVISION.pop("$defs"), "RevisionOptions": _REVISION}
REVISION_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/RevisionOptions"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "changes": {"$ref": "#/components/schemas/RevisionOptions"},
                        "archive": {
                            "type": "string",
                            "format": "binary",
                            "description": "Images to add: a zip, tar or tar.gz, as an upload's.",
                        },
                    },
                },
                "encoding": {"changes": {"contentType": "application/json"}},
            },
        },
    }
}
REVISION_RESPONSES: dict[int | str, dict[str, Any]] = {
    415: {"description": "The body is neither JSON nor a form, or the archive is none."},
    507: {"description": "The upload would fill the disk."},
}
