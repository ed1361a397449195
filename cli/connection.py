"""A running Fovea as commands speak to it: by the Python client, which here repeats nothing by itself.

A person at a terminal is told at once that nothing answers, and what to do about it.
"""

from fovea_client import Fovea, Unauthorized

TIMEOUT_S = 60.0


def connect(url: str | None = None, key: str | None = None, timeout_s: float = TIMEOUT_S) -> Fovea:
    """By default to where FOVEA_URL says, with FOVEA_KEY. Raises Unreachable for what is no URL."""
    return Fovea(url, key, timeout_s=timeout_s, patience_s=0)


def in_options(refused: Unauthorized) -> str:
    """The error in the words of the command line, whose user gives an option where a program gives an argument."""
    before, _, after = str(refused).rpartition("key=")
    return f"{before}--key{after}"
