"""A form of some JSON and a file, read while it is sent, never whole in memory."""

import json
import uuid
from collections.abc import Iterator

from fovea_client.answer import Json
from fovea_client.request import Body


def form_of(json_part: str, fields: Json, file_part: str, name: str, content: bytes | Body) -> tuple[Body, str]:
    """The form's body and its content type."""
    boundary = uuid.uuid4().hex
    name = name.replace("\\", "_").replace('"', "_")
    begin = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{json_part}"\r\n'
        f"Content-Type: application/json\r\n\r\n{json.dumps(fields)}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="{file_part}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    end = f"\r\n--{boundary}--\r\n".encode()
    size = len(content) if isinstance(content, bytes) else content.size

    def pieces() -> Iterator[bytes]:
        yield begin
        if isinstance(content, bytes):
            yield content
        else:
            yield from content.begin()
        yield end

    return Body(len(begin) + size + len(end), pieces), f"multipart/form-data; boundary={boundary}"
