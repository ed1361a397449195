"""A model file and what is said of it, as the form that is sent: read while it goes, never whole in memory."""

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from fovea_client.answer import Json
from fovea_client.progress import ShownUpload
from fovea_client.request import Body

CHUNK = 2**20


def form_of(file: str | os.PathLike[str], options: Json, upload: ShownUpload) -> tuple[Body, str]:
    """The form's body and its content type. Raises OSError where there is no such file."""
    path = Path(file)
    size = path.stat().st_size
    boundary = uuid.uuid4().hex
    name = path.name.replace("\\", "_").replace('"', "_")
    begin = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="options"\r\nContent-Type: application/json\r\n\r\n'
        f"{json.dumps(options)}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    end = f"\r\n--{boundary}--\r\n".encode()

    def pieces() -> Iterator[bytes]:
        yield begin
        done = 0
        with path.open("rb") as opened:
            while piece := opened.read(CHUNK):
                yield piece
                done += len(piece)
                upload.show("sending", done, size)
        yield end

    return Body(len(begin) + size + len(end), pieces), f"multipart/form-data; boundary={boundary}"
