"""What may be given as an image, and how it becomes the bytes that are sent.

Pillow and numpy are recognised where the program has imported them, and never imported here.
"""

import io
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from fovea_client.png import encode_png


class PilImage(Protocol):
    """A `PIL.Image.Image`."""

    @property
    def mode(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    def save(self, fp: Any, *args: Any, **params: Any) -> None: ...


class Array(Protocol):
    """A `numpy.ndarray`, uint8 of shape [height, width, 3] (RGB) or [height, width] (grey)."""

    @property
    def shape(self) -> tuple[Any, ...]: ...
    @property
    def dtype(self) -> Any: ...
    @property
    def ndim(self) -> int: ...
    def tobytes(self) -> bytes: ...


Image = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | PilImage | Array

UNTYPED = "application/octet-stream"
ORIENTATION = 0x0112
UPRIGHT = 1
# PNG has these modes of Pillow's; others are converted.
PNG_MODES = frozenset({"1", "L", "LA", "I;16", "P", "RGB", "RGBA"})
_BEGINS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"BM": "image/bmp",
    b"II*\0": "image/tiff",
    b"MM\0*": "image/tiff",
    b"II+\0": "image/tiff",
    b"MM\0+": "image/tiff",
}


@dataclass(frozen=True)
class Source:
    """An image that was given. `size` is at most so many bytes, `load` gives them.

    `path` is where they lie, None for what is in memory.
    """

    name: str | None
    size: int
    load: Callable[[], bytes]
    path: Path | None = None


def is_many(given: Any) -> bool:
    """Whether it is a list of images, or anything else that gives one after the other."""
    if isinstance(given, str | bytes | bytearray | memoryview | os.PathLike) or hasattr(given, "read"):
        return False
    return isinstance(given, Iterable) and not _is_pil(given) and not _is_array(given)


def source_of(given: Any) -> Source:
    """Raises TypeError or ValueError for what is no image; a file is not opened yet."""
    if isinstance(given, str) and "://" in given:
        raise ValueError(f"{given} is a URL, and only what is here is sent: fetch it first, and give its bytes")
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        return Source(str(path), _size_of(path), path.read_bytes, path)
    if isinstance(given, bytes | bytearray | memoryview):
        return Source(None, len(given), lambda: bytes(given))
    if _is_pil(given):
        width, height = given.size
        return Source(None, 4 * width * height, lambda: _encode_pil(given))
    if _is_array(given):
        _check_array(given)
        return Source(None, int(given.nbytes), lambda: encode_png(given))
    if hasattr(given, "read"):
        content = given.read()
        if not isinstance(content, bytes):
            raise TypeError(f"{given!r} gives {type(content).__name__}: open the file in binary mode, 'rb'")
        name = getattr(given, "name", None)
        return Source(name if isinstance(name, str) else None, len(content), lambda: content)
    raise TypeError(
        f"{type(given).__name__} is no image; expected a path, bytes, a file, a PIL image, "
        "or a numpy array uint8 [height, width, 3]"
    )


def media_type_of(image: bytes) -> str:
    """By the first bytes alone: a file called photo.json is no JSON request."""
    for begin, media_type in _BEGINS.items():
        if image.startswith(begin):
            return media_type
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        return "image/webp"
    if image[4:12] in (b"ftypavif", b"ftypavis"):
        return "image/avif"
    return UNTYPED


def shown(name: str) -> str:
    """A file's name as text that can be sent: what of it is no UTF-8 is replaced."""
    return name.encode("utf-8", "replace").decode()


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_pil(given: Any) -> bool:
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(given, module.Image)


def _is_array(given: Any) -> bool:
    module = sys.modules.get("numpy")
    return module is not None and isinstance(given, module.ndarray)


def _encode_pil(image: Any) -> bytes:
    """As PNG, without loss. How a camera was held goes with it, as it does when the file itself is sent."""
    options: dict[str, Any] = {"compress_level": 1}
    exif = image.getexif()
    if exif.get(ORIENTATION, UPRIGHT) != UPRIGHT:
        options["exif"] = exif
    buffer = io.BytesIO()
    (image if image.mode in PNG_MODES else image.convert("RGB")).save(buffer, "PNG", **options)
    return buffer.getvalue()


def _check_array(array: Any) -> None:
    """Raises ValueError: what the numbers of another kind mean is not guessed."""
    is_pixels = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if str(array.dtype) == "uint8" and is_pixels and array.size:
        return
    hint = ""
    if array.ndim == 4:
        hint = "; give a list for several images: list(array)"
    elif array.ndim == 3 and array.shape[0] == 3:
        hint = "; with its channels first it needs array.transpose(1, 2, 0)"
    elif str(array.dtype).startswith("float"):
        hint = "; values from 0 to 1 need (255 * array).round().astype('uint8')"
    raise ValueError(
        f"a numpy array has to be uint8 [height, width, 3] or [height, width], not {array.dtype} "
        f"{list(array.shape)}{hint}"
    )
