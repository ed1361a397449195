"""A command on a real pseudo-terminal of a given width: what a person would see there."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from dataclasses import dataclass

_ESCAPE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|[@-Z\\-_])")
FOVEA = (sys.executable, "-m", "cli.main")


@dataclass(frozen=True)
class Seen:
    """`text` is everything written, without colours and moves of the cursor; `lines` its lines, however long."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        return self.text.replace("\r", "\n").split("\n")


def in_terminal(
    command: Sequence[object],
    columns: int,
    *,
    typed: str = "",
    environment: dict[str, str] | None = None,
) -> Seen:
    """Runs the command to its end with input, output and errors on a terminal; `typed` are the keys pressed."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**inherited, "TERM": "xterm", **(environment or {})},
        start_new_session=True,
    )
    os.close(slave)
    os.write(master, typed.encode())
    written = b"".join(iter(lambda: _read(master), b""))
    os.close(master)
    return Seen(process.wait(30), _ESCAPE.sub("", written.decode("utf-8", "replace")))


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # what Linux says when the last process has closed its end
        return b""
