"""URLs that may hold a password, as a log, a message or a terminal shows them: without it."""

import re

# A user may be named like a password, so that all of it goes. It ends at the last `@` before the path.
_USER = re.compile(r"(?<=://)[^\s/?#'\"<>]*@")
_OPTION = re.compile(r"([?&]\w*(?:password|secret|token|key)\w*=)[^&\s'\"<>]+", re.IGNORECASE)


def redacted(text: str) -> str:
    """The text with `...` for what stands before the host of a URL, and for the passwords in its options."""
    if "://" not in text:
        return text
    return _OPTION.sub(r"\1...", _USER.sub("...@", text))
