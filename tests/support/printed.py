"""The commands that the pages print, and a place where they can be run as they stand."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support.pages import ROOT, Page, pages

# What a reader replaces by something of their own. The gateway of a test listens on a port of its own.
ADDRESS = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Printed:
    """One command of a page. `exports` are the lines of its block that set variables before it."""

    page: str
    text: str
    exports: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The command without comment, quotes and the breaks of its lines."""
        return " ".join(" ".join(shlex.split(self.text, comments=True)).split())


def printed_commands() -> Iterator[Printed]:
    """Every command in a block of shell, and every `fovea` in a sentence that is more than a command's name."""
    for page in pages():
        if page.is_history or page.name == "ARCHITECTURE.md":
            continue
        for block in page.blocks("sh"):
            yield from _commands(page, block)
        for code in page.code():
            if re.match(r"fovea [a-z]", code) and arguments_of(code):
                yield Printed(page.name, code)


def arguments_of(code: str) -> list[str]:
    """What follows the command's name: nothing in `fovea datasets create`. Raises KeyError for no such command."""
    from typer.main import get_command

    from cli.main import app

    found: object = get_command(app)
    words = code.split()[1:]
    while words and (commands := getattr(found, "commands", {})):
        found = commands[words.pop(0)]
    return words


def _commands(page: Page, block: str) -> Iterator[Printed]:
    exports: list[str] = []
    pending = ""
    for line in block.splitlines():
        pending = f"{pending}\n{line}" if pending else line
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # a quote that a later line closes
            continue
        if pending.endswith("\\"):
            continue
        if words:
            yield Printed(page.name, pending, tuple(exports))
        if words[:1] == ["export"]:
            exports.append(pending)
        pending = ""


@dataclass
class Playground:
    """A folder as a reader would have it, and a Fovea at `url`. `replaced` stands for what the reader fills in."""

    folder: Path
    url: str
    replaced: dict[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, command: Printed, timeout_s: float = 120) -> str:
        """What it printed. Fails unless it ends with 0, and where the gateway answers with a problem."""
        lines = "\n".join([*command.exports, self._as_typed(command.text)])
        return self._run(command.text, ["sh", "-euc", lines], timeout_s)

    def run_python(self, program: str, timeout_s: float = 120) -> str:
        """What it printed. Fails unless it ends with 0; a warning is an error."""
        command = [sys.executable, "-W", "error", "-c", self._as_typed(program)]
        return self._run(program, command, timeout_s)

    def _run(self, printed: str, command: list[str], timeout_s: float) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "FOVEA_URL": self.url,
                "COLUMNS": "150",
                "no_proxy": "*",
                **self.environment,
            },
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        said = f"{printed}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, said
        assert not _is_problem(done.stdout), said
        return done.stdout

    def _as_typed(self, text: str) -> str:
        """The command with the few words in it that a reader replaces."""
        for printed, real in {ADDRESS: self.url, **self.replaced}.items():
            text = re.sub(rf"(?<!\w){re.escape(printed)}(?!\w)", lambda _, real=real: real, text)
        return text


def place_deployment_files(folder: Path) -> None:
    """What of a clone `fovea init` and `docker/init.sh` work on."""
    (folder / "docker").mkdir()
    for name in ("docker/init.sh", "docker/env.template", "docker-compose.yml"):
        (folder / name).write_bytes((ROOT / name).read_bytes())


def _is_problem(text: str) -> bool:
    """Whether it is an error answer of the gateway; curl ends with 0 for those too."""
    try:
        answer = json.loads(text)
    except ValueError:
        return False
    return isinstance(answer, dict) and {"code", "detail", "status"} <= set(answer)
