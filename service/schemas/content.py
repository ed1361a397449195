"""Bodies and answers that are bytes or text, as OpenAPI shows them."""

from typing import Any

BINARY = {"schema": {"type": "string", "format": "binary"}}


def content(*media_types: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a call that answers with bytes or text of these types."""
    return {200: {"description": "The content.", "content": dict.fromkeys(media_types, BINARY)}}
