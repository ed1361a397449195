"""A model file and what is said of it, as the form that is sent: read while it goes, never whole in memory."""

import os
from collections.abc import Iterator
from pathlib import Path

from fovea_client.answer import Json
from fovea_client.form import form_of as form
from fovea_client.progress import ShownUpload
from fovea_client.request import Body

CHUNK = 2**20


def form_of(file: str | os.PathLike[str], options: Json, upload: ShownUpload) -> tuple[Body, str]:
    """The form's body and its content type. Raises OSError where there is no such file."""
    path = Path(file)
    size = path.stat().st_size

    def pieces() -> Iterator[bytes]:
        done = 0
        with path.open("rb") as opened:
            while piece := opened.read(CHUNK):
                yield piece
                done += len(piece)
                upload.show("sending", done, size)

    return form("options", options, "file", path.name, Body(size, pieces))
