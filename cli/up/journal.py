"""What `fovea up` prints: its own words and its children's lines, each with its origin. Knows no process."""

import json
import sys
from datetime import UTC, datetime
from typing import TextIO

from rich.console import Console
from rich.text import Text

_COLOURS = {"fovea": "bold", "gateway": "cyan", "inference": "green", "training": "magenta"}
_WIDTH = max(map(len, _COLOURS))


class Journal:
    """One line per event on `file` (standard output): prefixed text, or JSON for a log collector.

    A reader that goes away (`fovea up | head`) does not stop the service: what follows is not printed.
    """

    def __init__(self, form: str = "text", file: TextIO | None = None) -> None:
        self.console = Console(file=file or sys.stdout, highlight=False, soft_wrap=True)
        self._json = form == "json"

    @property
    def progress_console(self) -> Console | None:
        """Where a moving progress bar can be shown; None when no person watches."""
        return self.console if self.console.is_terminal and not self._json else None

    def say(self, text: str) -> None:
        """Fovea's own words."""
        self.line("fovea", text)

    def line(self, origin: str, text: str) -> None:
        """One line of the process `origin`; a line that is JSON already passes unchanged in the JSON form."""
        if self._json:
            self._write(text if text.startswith("{") else _as_json(origin, text))
        elif self.console.is_terminal:
            prefix = (f"{origin:<{_WIDTH}} │ ", _COLOURS.get(origin, "blue"))
            self._print(Text.assemble(prefix, Text.from_ansi(text)))
        else:
            self._write(f"{origin:<{_WIDTH}} | {text}")

    def show(self, text: str) -> None:
        """Text for people, such as the banner, without a prefix."""
        if self._json:
            self.say(text)
        else:
            self._write(text)

    def _write(self, text: str) -> None:
        self._print(Text(text))

    def _print(self, text: Text) -> None:
        try:
            self.console.print(text)
        except BrokenPipeError:
            self.console.quiet = True


def _as_json(origin: str, text: str) -> str:
    moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return json.dumps({"timestamp": moment, "level": "info", "role": origin, "event": text})
