"""JSON merge patches (RFC 7396), as OpenAPI shows them."""

from typing import Any

from pydantic import BaseModel


def merge_patch(patch: type[BaseModel]) -> dict[str, Any]:
    """The body of a call that takes a JSON merge patch, under its own content type and under JSON's."""
    schema = {"schema": {"$ref": f"#/components/schemas/{patch.__name__}"}}
    types = ("application/merge-patch+json", "application/json")
    return {"requestBody": {"required": True, "content": {name: dict(schema) for name in types}}}
