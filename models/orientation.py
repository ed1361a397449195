"""How a stored picture is to be turned, from its EXIF or XMP data.

Pillow's own reading makes Python objects of all values of a tag before it looks at one: a hostile file of 24 MB
kept a core busy for 19 seconds.
"""

import re
import struct
from collections.abc import Mapping
from typing import Any

TAG = 0x0112
UPRIGHT = 1
LAST = 8

_SHORT, _LONG = 3, 4
_MOST_TAGS = 1024
_XMP = re.compile(r'tiff:Orientation(?:="|>)([1-8])')


def orientation_of(info: Mapping[str | tuple[int, int], Any]) -> int:
    """1 to 8 as EXIF counts them, from the `info` of an image that Pillow opened; 1 where nothing is said."""
    exif = info.get("exif")
    if exif is None and "Raw profile type exif" in info:
        exif = _from_text(info["Raw profile type exif"])
    found = _in_exif(exif) if isinstance(exif, bytes) else None
    if found is None:
        found = _in_xmp(info.get("XML:com.adobe.xmp") or info.get("xmp"))
    return found if found is not None and UPRIGHT <= found <= LAST else UPRIGHT


def _in_exif(exif: bytes) -> int | None:
    """The value of the first directory's tag; EXIF is a TIFF file without pixels."""
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for entry in range(min(count, _MOST_TAGS)):
            tag, kind, values = struct.unpack_from(f"{order}HHI", data, start + 2 + 12 * entry)
            if tag == TAG:
                if values != 1 or kind not in (_SHORT, _LONG):
                    return None
                form = "H" if kind == _SHORT else "I"
                value: int = struct.unpack_from(f"{order}{form}", data, start + 10 + 12 * entry)[0]
                return value
    except struct.error:
        pass  # damaged data beside a sound picture: viewers show it as it is stored
    return None


def _in_xmp(xmp: Any) -> int | None:
    text = xmp.decode("utf-8", "replace") if isinstance(xmp, bytes) else xmp
    match = _XMP.search(text) if isinstance(text, str) else None
    return int(match[1]) if match else None


def _from_text(profile: str | bytes) -> bytes | None:
    """How ImageMagick keeps EXIF in a PNG: hexadecimal digits in lines behind three of a heading."""
    text = profile.decode("latin-1") if isinstance(profile, bytes) else profile
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return None
