"""A form whose one file goes to the disk while it arrives; what else it brings is its receiver's business."""

import asyncio
import hashlib
from pathlib import Path
from typing import BinaryIO, Protocol

from fastapi import Request

from service.forms import FormReader, Part
from service.uploads import check_space, gathered


class FormReceiver(Protocol):
    """Both `begins` and `brings` may raise Problem. `digest` is of what is written to `file`."""

    file: BinaryIO
    digest: "hashlib._Hash"

    def begins(self, part: Part) -> None: ...

    def brings(self, data: bytes) -> bytes:
        """What of the part that began last belongs to the file."""
        ...


async def receive_form(request: Request, form: FormReceiver, most_files: int, folder: Path) -> None:
    """The file lies in `folder`. Raises Problem: what `form` and `FormReader` raise, 507 for a full disk."""
    reader = FormReader(request.headers["content-type"], most_files, with_fields=True)
    async for piece in gathered(request.stream()):
        # The parser hands on many small parts of one piece, and a thread for each would take longer than the disk.
        found = bytearray()
        for event in reader.feed(bytes(piece)):
            if isinstance(event, Part):
                form.begins(event)
            elif event is not None:
                found += form.brings(event)
        check_space(folder, len(found))
        await asyncio.to_thread(form.file.write, found)
        await asyncio.to_thread(form.digest.update, found)
    reader.close()
