"""A model file of one's own: the form that it comes in, and what is answered."""

from typing import Any

from workers.contract.jobs.model_file import UploadOptions

MODEL_FILE_RESPONSES: dict[int | str, dict[str, Any]] = {
    415: {"description": "The body is neither JSON nor a form, or the form's file is no model."},
    507: {"description": "The upload would fill the disk."},
}
_OPTIONS = UploadOptions.model_json_schema(ref_template="#/components/schemas/{model}")
MODEL_FILE_SCHEMAS: dict[str, Any] = {**_OPTIONS.pop("$defs"), "UploadOptions": _OPTIONS}
# Beside the JSON that the call takes.
MODEL_FILE_BODY: dict[str, Any] = {
    "requestBody": {
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {
                            "type": "string",
                            "format": "binary",
                            "description": "An ONNX file, or a checkpoint: `.safetensors`, or `.pth` of tensors "
                            "alone.",
                        },
                        "options": {"$ref": "#/components/schemas/UploadOptions"},
                        "labels": {"type": "string", "description": "Instead of the option: a label a line."},
                    },
                    "required": ["file"],
                },
                "encoding": {"options": {"contentType": "application/json"}},
            }
        }
    }
}
