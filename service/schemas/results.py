"""The lines of results of a job that looked at many images."""

from typing import Any

RESULT_LINE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": ["string", "null"]},
        "classes": {
            "type": ["array", "null"],
            "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "label": {"type": "string"},
                    "probability": {"type": "number"},
                },
                "required": ["index", "label", "probability"],
            },
        },
        "error": {
            "type": ["object", "null"],
            "properties": {"code": {"type": "string"}, "detail": {"type": "string"}},
            "required": ["code", "detail"],
        },
    },
    "required": ["path", "classes", "error"],
}
_NULLABLE_TEXT = {"type": ["string", "null"]}
_NULLABLE_NUMBER = {"type": ["number", "null"]}
EVALUATION_LINE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "label": {"type": "string"},
        "answers": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "label": _NULLABLE_TEXT,
                    "probability": _NULLABLE_NUMBER,
                    "of_label": _NULLABLE_NUMBER,
                    "error": RESULT_LINE["properties"]["error"],
                },
                "required": ["label", "probability", "of_label", "error"],
            },
        },
    },
    "required": ["path", "label", "answers"],
}
_LINES = {"itemSchema": {"oneOf": [RESULT_LINE, EVALUATION_LINE]}}
RESULTS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A line for each image, in the order of their paths.",
        "content": {
            "application/jsonl": _LINES,
            "application/x-ndjson": _LINES,
            "text/csv": {"schema": {"type": "string"}},
        },
    },
    404: {"description": "No such job, or one that has no lines of results."},
    406: {"description": "None of the forms is one that `Accept` takes."},
    409: {"description": "The job has not ended, or did not succeed, and `partial` was not asked for."},
}
