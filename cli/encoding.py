"""Output where not every character can be shown: ASCII for what is drawn, escapes for the rest, never an error."""

import codecs
import io
import sys

_HANDLER = "fovea.ascii"
_DRAWN = str.maketrans(
    {
        **dict.fromkeys("▏▎▍▌", " "),
        **dict.fromkeys("▋▊▉█", "#"),
        **dict.fromkeys("━╸╺─", "-"),
        **dict.fromkeys("│┃", "|"),
        **dict.fromkeys("╭╮╰╯", "+"),
        "×": "x",
        "·": "*",
        "–": "-",
        "…": "~",
    }
)


def never_fail_to_print() -> None:
    """Have standard output and error replace what their encoding lacks, unless the user chose how errors are met.

    Python itself ends with an error on standard output, and shows drawn bars as escapes on standard error.
    """
    codecs.register_error(_HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _errors_to_replace(stream.encoding):
            stream.reconfigure(errors=_HANDLER)


def is_unicode(encoding: str | None) -> bool:
    """Whether every character has a form in the encoding; None is that of a file in memory."""
    return encoding is None or encoding.lower().startswith("utf")


def _errors_to_replace(encoding: str) -> tuple[str, ...]:
    """Python's defaults. In UTF-8 only a file name that is no text can fail, where `strict`."""
    return ("strict",) if is_unicode(encoding) else ("strict", "surrogateescape", "backslashreplace")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_DRAWN)
    return text.encode("ascii", "backslashreplace").decode(), error.end
