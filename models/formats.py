"""Which image formats are taken, which archives a dataset may come in, and what other files are, by first bytes.

Knows no Pillow and decodes nothing: the gateway and the command line ask here too.
"""

import tarfile
from dataclasses import dataclass
from typing import Literal

# What any answer here needs of a file at most: a tar is known by its first block.
BEGIN_BYTES = tarfile.BLOCKSIZE

ArchiveKind = Literal["zip", "tar", "tar.gz"]


@dataclass(frozen=True)
class ImageFormat:
    """`name` is Pillow's; `aliases` are other media types that clients send for it."""

    name: str
    media_type: str
    suffixes: tuple[str, ...]
    aliases: tuple[str, ...] = ()


JPEG = ImageFormat("JPEG", "image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif"), ("image/jpg", "image/pjpeg"))
PNG = ImageFormat("PNG", "image/png", (".png", ".apng"), ("image/x-png", "image/apng"))
WEBP = ImageFormat("WEBP", "image/webp", (".webp",), ("image/x-webp",))
BMP = ImageFormat(
    "BMP", "image/bmp", (".bmp",), ("image/x-bmp", "image/x-ms-bmp", "image/ms-bmp", "image/x-windows-bmp")
)
GIF = ImageFormat("GIF", "image/gif", (".gif",))
TIFF = ImageFormat("TIFF", "image/tiff", (".tif", ".tiff"), ("image/tif", "image/x-tiff", "image/x-tif"))
AVIF = ImageFormat("AVIF", "image/avif", (".avif",), ("image/avif-sequence",))
IMAGE_FORMATS = (JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF)
FORMAT_NAMES = "JPEG, PNG, WEBP, BMP, GIF, TIFF or AVIF"

MEDIA_TYPES = tuple(known.media_type for known in IMAGE_FORMATS)
ACCEPTED_MEDIA_TYPES = frozenset(
    media_type for known in IMAGE_FORMATS for media_type in (known.media_type, *known.aliases)
)
FORMAT_OF_SUFFIX = {suffix: known.name for known in IMAGE_FORMATS for suffix in known.suffixes}
HEIF_MEDIA_TYPES = frozenset({"image/heic", "image/heif", "image/heic-sequence", "image/heif-sequence"})

# The sizes of the headers that follow a BMP's first 14 bytes; "BM" alone begins many a text.
_BMP_HEADERS = frozenset({12, 40, 52, 56, 64, 108, 124})
_TIFF_BEGINS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"mif1", b"msf1"})
_OTHER_PICTURES = {
    b"8BPS": "a Photoshop picture",
    b"\0\0\0\x0cjP  ": "a JPEG 2000 picture",
    b"\xff\x4f\xff\x51": "a JPEG 2000 picture",
    b"\xff\x0a": "a JPEG XL picture",
    b"\0\0\0\x0cJXL ": "a JPEG XL picture",
    b"\0\0\1\0": "an icon (ICO)",
    b"<svg": "an SVG drawing",
}
_OTHER_FILES = {
    b"%PDF": "a PDF",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"<": "markup (an HTML or XML page)",
}
_ARCHIVES: dict[ArchiveKind, str] = {"zip": "a zip archive", "tar": "a tar archive", "tar.gz": "a gzip file"}


def image_format(begin: bytes) -> ImageFormat | None:
    """The format of an image by its first bytes (`BEGIN_BYTES` are enough), None for every other file."""
    if begin.startswith(b"\xff\xd8\xff"):
        return JPEG
    if begin.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    if begin[:4] == b"RIFF" and begin[8:12] == b"WEBP":
        return WEBP
    if begin.startswith((b"GIF87a", b"GIF89a")):
        return GIF
    if begin.startswith(_TIFF_BEGINS):
        return TIFF
    if begin.startswith(b"BM") and int.from_bytes(begin[14:18], "little") in _BMP_HEADERS:
        return BMP
    return AVIF if _AVIF_BRANDS & _brands(begin) else None


def media_type(begin: bytes) -> str | None:
    """What an image's `Content-Type` is, by its first bytes; None for what is no image that Fovea takes."""
    known = image_format(begin)
    return known.media_type if known else None


def archive_kind(begin: bytes) -> ArchiveKind | None:
    """The kind of archive that a file is by its first `BEGIN_BYTES`, whatever its name; None for another file."""
    if begin.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if begin.startswith(b"\x1f\x8b"):
        return "tar.gz"
    return "tar" if _is_tar_header(begin[: tarfile.BLOCKSIZE]) else None


def other_picture(begin: bytes) -> str | None:
    """What an image of a format that is not taken is, such as "a HEIC picture"; None for every other file."""
    brands = _brands(begin)
    if any(brand.startswith((b"hei", b"hev")) for brand in brands) or brands & _HEIF_BRANDS:
        return "a HEIC picture"
    return next((words for signature, words in _OTHER_PICTURES.items() if begin.startswith(signature)), None)


def described(begin: bytes) -> str:
    """What a file is, in words for people, by its first `BEGIN_BYTES`."""
    if not begin:
        return "an empty file"
    if known := image_format(begin):
        return f"{'an' if known is AVIF else 'a'} {known.name} picture"
    if other := other_picture(begin) or other_picture(begin.lstrip()):
        return other
    if archive := archive_kind(begin):
        return _ARCHIVES[archive]
    known_file = (words for signature, words in _OTHER_FILES.items() if begin.lstrip().startswith(signature))
    return next(known_file, f"no file that Fovea knows (it begins with {begin[:8]!r})")


def no_image(begin: bytes) -> str:
    """Why a file with that beginning cannot be classified, and what to do, in words for people."""
    if other := other_picture(begin):
        return f"this is {other}, which is not read: convert it to JPEG"
    return f"this is {described(begin)}; expected a {FORMAT_NAMES} picture"


def no_archive(begin: bytes) -> str:
    """Why a file with that beginning cannot be a dataset's source, in words for people."""
    known = image_format(begin) or other_picture(begin)
    return f"this is {described(begin)}{', not a folder of them' if known else ''}: send a zip, a tar or a tar.gz"


def _brands(begin: bytes) -> frozenset[bytes]:
    """The brands of a file of ISO's base media format (AVIF, HEIC, MP4), its own and the compatible ones."""
    if begin[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(begin[:4], "big"), len(begin))
    return frozenset((begin[8:12], *(begin[at : at + 4] for at in range(16, end - 3, 4))))


def _is_tar_header(block: bytes) -> bool:
    """By the header's checksum: the oldest tars have no other mark. A block of zeros is a tar without members."""
    if len(block) == tarfile.BLOCKSIZE and not block.strip(b"\0"):
        return True
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True
