"""The names of files in a dataset's source: which are safe, which are litter, which are odd. Opens no file."""

import re
import unicodedata
from pathlib import PurePosixPath

from models.dataset.errors import LimitExceeded, UnsafeArchive
from models.dataset.limits import Limits
from system.hidden import hidden_character

# What operating systems, viewers and network drives leave behind. Whatever begins with a dot is left out too.
LITTER = frozenset({"__macosx", "icon\r", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin"})
# The file in which macOS keeps a folder's own picture: the one control character that is no attack.
MACOS_ICON = re.compile(r"(?<![^/])Icon\r\Z")

DRIVE = re.compile(r"[A-Za-z]:")
PLAIN = re.compile(r"[\w-]+(\.\w+)?")


def safe_name(raw: str, limits: Limits) -> str:
    """A member's path, relative, with single slashes, in Unicode's composed form (macOS stores the other).

    Raises UnsafeArchive for what could reach out of a folder on any operating system, forge a line of a log or
    look like another name, and LimitExceeded for what is too long or too deep.
    """
    if len(raw) > limits.path_length:
        raise LimitExceeded(
            "path_length",
            f"a path of {len(raw)} characters, at most {limits.path_length} are allowed: {shown(raw[:60])}...",
        )
    raw = MACOS_ICON.sub(".Icon", raw)
    if hidden := hidden_character(raw):
        raise UnsafeArchive(f"the path {shown(raw)} holds a character that is not seen, {hidden}: rename the file")
    if "\\" in raw:
        raise UnsafeArchive(
            f"the path {shown(raw)} holds a backslash: pack the folder again with / between folders"
        )
    parts = [part for part in unicodedata.normalize("NFC", raw).split("/") if part not in ("", ".")]
    if raw.startswith("/") or (parts and DRIVE.match(parts[0])):
        raise UnsafeArchive(f"the path {shown(raw)} is absolute: pack the folder with relative paths")
    if ".." in parts:
        raise UnsafeArchive(f"the path {shown(raw)} reaches out of its folder by '..'")
    if not parts:
        raise UnsafeArchive(f"the path {shown(raw)} names no file")
    if len(parts) > limits.path_depth:
        raise LimitExceeded(
            "path_depth",
            f"the path {shown(raw)} is {len(parts)} folders deep, at most {limits.path_depth} are allowed",
        )
    return "/".join(parts)


def repaired(raw: bytes, fallback: str) -> tuple[str, bool]:
    """A name of undeclared encoding: as UTF-8 if it is that, else by `fallback`; and whether that was a guess.

    `fallback` is an 8-bit code page that knows every byte, so that no name is unreadable.
    """
    try:
        return raw.decode(), False
    except UnicodeDecodeError:
        return raw.decode(fallback), True


def is_litter(name: str) -> bool:
    """Whether an operating system or a tool left this behind: `__MACOSX`, `.DS_Store`, `._*`, `Thumbs.db`..."""
    return any(part.startswith(".") or part.casefold() in LITTER for part in name.split("/"))


def is_odd(name: str) -> bool:
    """Whether the file is called so that tools stumble: blanks, brackets, quotes, several dots."""
    return not PLAIN.fullmatch(PurePosixPath(name).name)


def shown(raw: str) -> str:
    """A name that nobody vouches for, quoted and escaped for a message."""
    return repr(raw if len(raw) <= 120 else raw[:120] + "...")


def is_root(raw: str) -> bool:
    """Whether a folder's name is only the archive itself, as in a tar made of `.`."""
    return raw.rstrip("/") == "."
