"""The command `fovea` run in the test's process, as its entry point runs it: the same errors and exit codes.

One process, so that what is heavy to import is imported once for all tests.
"""

import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from cli.main import main


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


Command = Callable[..., Said]


def fovea(*arguments: str) -> Done:
    """Runs `fovea ARGUMENTS` through its real entry point."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = _run(arguments)
    return Done(code, out.getvalue(), err.getvalue())


def command_against(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `fovea ARGUMENTS...` with FOVEA_URL set, and returns what it said."""
    monkeypatch.setenv("FOVEA_URL", url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        code = _run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


def _run(arguments: tuple[str, ...] | list[str]) -> int:
    before, sys.argv = sys.argv, ["fovea", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv = before
    return 0
