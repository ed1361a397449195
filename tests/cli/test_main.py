"""The command itself: what it says of itself, how quickly, and how it refuses to start."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.up.data_folder import claim_data_folder

HEAVY = ("torch", "onnxruntime", "numpy", "sqlalchemy", "celery", "redis", "httpx", "fastapi", "sklearn", "rich")


def fovea(*arguments: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=timeout, env={**os.environ, **environment}
    )


def test_the_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert fovea("--version").stdout == f"fovea {version('fovea')}\n"


def test_help_names_every_command() -> None:
    said = fovea("--help").stdout
    for command in ("up", "demo", "classify", "datasets", "finetune", "models", "jobs", "doctor"):
        assert re.search(rf"^\W*{command}\b", said, re.MULTILINE)


def test_nothing_heavy_is_imported_before_a_command_needs_it() -> None:
    program = f"import sys, cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("up", "--device", "tpu"), "'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (("up", "--log-format", "xml"), "'xml' is not one of 'text', 'json'"),
        (("up", "--port", "99999"), "65535"),
        (("classify", "--top-k", "0", "x.png"), "--top-k"),
        (("datasets", "create", "x", "--on-fault", "maybe"), "'maybe' is not one of 'skip', 'refuse'"),
        (("models", "card", "x", "--format", "pdf"), "'pdf' is not one of 'md', 'html'"),
        (("fly",), "fly"),
    ],
)
def test_a_wrong_option_is_named_and_ends_with_2(arguments: tuple[str, ...], words: str) -> None:
    ended = fovea(*arguments, COLUMNS="200")
    assert ended.returncode == 2
    assert words in ended.stderr


def refusal(*arguments: str) -> str:
    """What `fovea up` says on stderr when it refuses to start: one line."""
    ended = fovea("up", *arguments)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("fovea: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def test_up_refuses_a_taken_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} on 127.0.0.1 is taken" in refusal("--data", str(tmp_path), "--port", str(port))


def test_up_refuses_a_data_folder_in_use(tmp_path: Path) -> None:
    with claim_data_folder(tmp_path) as folder:
        folder.announce("http://127.0.0.1:8000")
        said = refusal("--data", str(tmp_path), "--port", "0")
    assert f"{tmp_path} is in use by another Fovea (pid {os.getpid()}, http://127.0.0.1:8000)" in said


def test_up_refuses_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert "a file of that name is in the way" in refusal("--data", str(tmp_path / "data"), "--port", "0")


def test_up_refuses_a_redis_that_does_not_answer(tmp_path: Path) -> None:
    ended = fovea("up", "--data", str(tmp_path), "--port", "0", "--redis-url", "redis://127.0.0.1:1/0")
    assert ended.returncode == 1
    assert ended.stderr.startswith("fovea: no Redis answers at redis://127.0.0.1:1/0")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("audit", "--since", "gestern"), "Invalid value for '--since': 'gestern' was given, expected is a valid"),
        (("audit", "--limit", "0"), "'0' was given, expected is greater than or equal to 1."),
        (("keys", "limits", "abc", "--jobs-waiting", "x"), "'x' was given, expected is a valid integer."),
        (("keys", "create", "--scope", "nope"), "'nope' is not one of 'classify', 'train', 'admin'."),
        (("jobs", "list", "--limit", "many"), "'many' was given, expected is a valid integer."),
    ],
)
def test_a_wrong_option_is_told_in_plain_words(arguments: tuple[str, ...], words: str) -> None:
    ended = fovea(*arguments)
    assert ended.returncode == 2
    said = " ".join(ended.stderr.replace("│", " ").split())
    assert words in said
    assert "Value error" not in said
    assert "Input should" not in said


def test_a_signal_during_the_start_ends_it_cleanly(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "up", "--data", str(tmp_path / "data"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as starting:
        assert starting.stdout
        assert "data in" in starting.stdout.readline()
        time.sleep(0.5)
        starting.send_signal(signal.SIGTERM)
        said, _ = starting.communicate(timeout=12)
    assert starting.returncode == 0, said
    assert "everything has ended" in said
    assert "Traceback" not in said
    assert not (tmp_path / "data" / "run").exists()


def test_doctor_has_an_answer_to_everything_and_finds_this_machine_fit(tmp_path: Path) -> None:
    ended = fovea("doctor", "--json", "--data", str(tmp_path / "data"), timeout=150)
    report = json.loads(ended.stdout)
    assert ended.returncode == 0, ended.stdout
    assert report["ok"]
    levels = {check["name"]: check["level"] for check in report["checks"]}
    assert levels["Redis"] == levels["inference device"] == levels["training device"] == "ok"
    facts = {check["name"]: check["facts"] for check in report["checks"]}
    assert "CPU" in facts["inference device"]["usable"]
    assert facts["memory"]["limit_bytes"] > 0
    assert not (tmp_path / "data").exists(), "looking must not make anything"
