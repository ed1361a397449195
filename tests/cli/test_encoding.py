"""What is printed where the terminal or file takes ASCII alone: something readable, and never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ASCII = (
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)
PROGRAM = """
import sys
from cli.encoding import never_fail_to_print
never_fail_to_print()
from cli.output import bar, print_json_line, print_table
print_table(("label", "", ""), [("grün", bar(0.5, 8), "50.0 %"), ("pin\\udcffe", bar(1.0, 8), "100.0 %")])
print_json_line({"label": "grün 狗"})
print("│ ━━━╸ …", file=sys.stderr)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "program.py"
    file.write_text(PROGRAM, "utf-8")
    return file


def run(program: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, program]
    return subprocess.run(command, capture_output=True, check=False, env={**os.environ, **environment})


@pytest.mark.parametrize("environment", ASCII, ids=" ".join)
def test_bars_become_ascii_and_letters_escapes(program: Path, environment: dict[str, str]) -> None:
    done = run(program, environment)
    assert done.returncode == 0, done.stderr
    _, green, pine, as_json = done.stdout.decode("ascii").splitlines()
    assert green.split() == [r"gr\xfcn", "####", "50.0", "%"]
    assert pine.split() == [r"pin\udcffe", "########", "100.0", "%"]
    assert json.loads(as_json) == {"label": "grün 狗"}
    assert done.stderr == b"| ---- ~\n"


def test_utf_8_is_left_as_it_is_but_for_names_that_are_no_text(program: Path) -> None:
    done = run(program, {"PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode("utf-8").splitlines()
    assert lines[1].split() == ["grün", "████", "50.0", "%"]
    assert r"pin\udcffe" in lines[2]
    assert lines[3] == '{"label": "grün 狗"}'


def test_what_the_user_chose_is_left_to_stand(program: Path) -> None:
    done = run(program, {"PYTHONIOENCODING": "ascii:ignore"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split() == [b"grn", b"50.0", b"%"]
