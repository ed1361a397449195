"""`fovea up` and `fovea demo` as a person uses them: every part real, from an empty folder to an answer."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

FOVEA = [sys.executable, "-m", "cli.main"]
ENVIRONMENT = {**os.environ, "COLUMNS": "200"}


class RunningUp:
    """A `fovea up` and what it printed so far."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*FOVEA, "up", "--data", "data", "--port", "0", *options],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            self.lines.extend(iter(lines.readline, ""))

    @property
    def text(self) -> str:
        return "".join(self.lines)

    @property
    def url(self) -> str:
        (url,) = re.findall(r"Fovea is ready at (\S+)", self.text)
        return str(url)

    def await_words(self, words: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while words not in self.text:
            assert self.process.poll() is None, f"it ended:\n{self.text}"
            assert time.monotonic() < deadline, f"{words!r} did not come:\n{self.text}"
            time.sleep(0.05)

    def pid_of(self, module: str) -> int:
        children = psutil.process_iter(["pid", "ppid", "cmdline"])  # a zombie has no command line, and is no error
        (found,) = (
            child.pid
            for child in children
            if child.info["ppid"] == self.process.pid and module in " ".join(child.info["cmdline"] or ())
        )
        return int(found)

    def end(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Signal it and wait; the seconds that it took. Nothing that it started may be left."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(timeout=20)
        took = time.monotonic() - started
        self._reader.join(timeout=5)
        _, left = psutil.wait_procs(family, timeout=0.2)
        assert left == []
        return took


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def up(folder: Path) -> Iterator[RunningUp]:
    running = RunningUp(folder)
    try:
        running.await_words("Ctrl-C ends it.", timeout_s=600)
        yield running
    finally:
        if running.process.poll() is None:
            running.end()


def curl_lines(up: RunningUp) -> list[str]:
    return [line.strip() for line in up.lines if line.strip().startswith("curl ")]


@pytest.mark.timeout(700)
def test_from_an_empty_folder_it_becomes_ready_with_a_trained_starter_model(up: RunningUp) -> None:
    assert "training digits: training" in up.text
    (answer,) = re.findall(r"-> digits version 1: (\d) ([\d.]+) %", up.text)
    assert answer[0] == "7"
    assert float(answer[1]) > 50


def test_the_printed_curl_lines_work_as_they_stand(up: RunningUp, folder: Path) -> None:
    lines = curl_lines(up)
    assert len(lines) == 3
    answers = []
    for line in lines:
        said = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=True).stdout
        answers.append(json.loads(said))
    classified, models, ready = answers
    assert classified["predictions"][0]["classes"][0]["label"] == "7"
    assert [model["name"] for model in models["items"]] == ["digits"]
    assert ready["status"] == "ready"


def test_the_starter_model_is_registered_with_its_accuracy_on_held_out_digits(up: RunningUp) -> None:
    shown = fovea(up, "models", "show", "digits", "--json")
    model = json.loads(shown.stdout)
    assert model["aliases"] == {"production": 1}
    (version,) = model["items"]
    assert version["architecture"] == "lenet5"
    assert version["labels"] == list("0123456789")
    assert version["metrics"]["accuracy"] >= 0.98


def test_its_files_are_classified_in_a_table_and_as_json(up: RunningUp, folder: Path) -> None:
    samples = sorted(str(path) for path in (folder / "data" / "samples").glob("*.png"))
    assert len(samples) == 10
    table = fovea(up, "classify", *samples, "--top-k", "2")
    assert table.returncode == 0
    assert all(sample in table.stdout for sample in samples)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    mixed = fovea(up, "classify", samples[7], str(folder / "broken.png"), "--json")
    assert mixed.returncode == 1
    right, broken = json.loads(mixed.stdout)["results"]
    assert right["classes"][0]["label"] == "7"
    assert broken["error"]["code"] == "image_unreadable"


def test_a_killed_worker_is_started_again_with_the_reason_and_serves(up: RunningUp, folder: Path) -> None:
    os.kill(up.pid_of("workers.inference.main"), signal.SIGKILL)
    up.await_words("inference died: killed by SIGKILL", timeout_s=5)
    sample = str(folder / "data" / "samples" / "digit-7-0.png")
    deadline = time.monotonic() + 60
    while (ended := fovea(up, "classify", sample, "-m", "digits")).returncode != 0:
        assert re.search(r"\((no_worker|deadline_exceeded)\)", ended.stderr), ended.stderr
        assert time.monotonic() < deadline, up.text
        time.sleep(0.2)


def test_while_a_killed_gateway_is_started_again_nobody_is_refused(up: RunningUp) -> None:
    gateway = up.pid_of("service.main")
    os.kill(gateway, signal.SIGKILL)
    up.await_words("gateway died: killed by SIGKILL", timeout_s=5)
    assert httpx.get(f"{up.url}/livez", timeout=60).status_code == 200
    assert up.pid_of("service.main") != gateway


@pytest.mark.timeout(150)
def test_the_brokers_restart_is_survived(up: RunningUp, folder: Path) -> None:
    os.kill(up.pid_of("broker.sock"), signal.SIGKILL)
    os.kill(up.pid_of("transit.sock"), signal.SIGKILL)
    up.await_words("transit died: killed by SIGKILL", timeout_s=15)
    sample = str(folder / "data" / "samples" / "digit-7-0.png")
    # A request whose message was lost between the two deaths ends only with its own deadline of 30 s.
    deadline = time.monotonic() + 90
    while fovea(up, "classify", sample, "-m", "digits").returncode != 0:
        assert time.monotonic() < deadline, up.text
        time.sleep(0.2)


def test_a_second_one_in_the_same_folder_is_refused(up: RunningUp, folder: Path) -> None:
    second = subprocess.run(
        [*FOVEA, "up", "--data", "data", "--port", "0"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert f"in use by another Fovea (pid {up.process.pid}, {up.url})" in second.stderr


def test_a_signal_ends_everything_within_ten_seconds(up: RunningUp, folder: Path) -> None:
    assert up.end(signal.SIGINT) < 10
    assert up.process.returncode == 0, up.text
    assert "Traceback" not in up.text.split("SIGINT: ending everything")[1]
    assert not (folder / "data" / "run").exists()


@pytest.mark.timeout(120)
def test_the_next_start_is_quick_and_trains_nothing(up: RunningUp, folder: Path) -> None:
    assert up.process.poll() is not None, "the first one still runs"
    again = RunningUp(folder)
    try:
        again.await_words("Ctrl-C ends it.", timeout_s=60)
        assert "training digits" not in again.text
        assert "-> digits version 1: 7" in again.text
    finally:
        assert again.end() < 10


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_demo_uses_a_running_fovea_and_the_images_that_are_there(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "cli.demo_digits", "digits", "10", "dataset"], cwd=tmp_path, check=True)
    running = RunningUp(tmp_path, "--no-starter")
    try:
        running.await_words("Ctrl-C ends it.", timeout_s=120)
        sent = fovea(running, "datasets", "create", str(tmp_path / "digits" / "0-9"))
        assert sent.returncode == 0, sent.stderr
        ended = fovea(running, "demo", "--json", "--url", running.url)
        models = json.loads(fovea(running, "models", "list", "--json").stdout)
    finally:
        if running.process.poll() is None:
            running.end()
    assert ended.returncode == 0, ended.stderr
    assert "the same images are there already as" in ended.stderr
    check_story(json.loads(ended.stdout))
    assert [model["name"] for model in models] == ["digits-demo"]


@pytest.mark.slow
@pytest.mark.timeout(700)
def test_the_demo_runs_from_start_to_end_by_itself(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*FOVEA, "demo", "--json"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    check_story(json.loads(ended.stdout))
    assert list(tmp_path.iterdir()) == [], "it left something behind"


def check_story(report: dict[str, Any]) -> None:
    """Five digits first, then ten from the model of the five, each right about images that were never sent."""
    first, second = report["finetunes"]
    assert (first["labels"], second["labels"]) == (list("01234"), list("0123456789"))
    assert (first["version"], second["version"]) == (1, 2)
    assert second["labels_kept"] == list("01234")
    assert (first["unseen"]["images"], second["unseen"]["images"]) == (50, 100)
    assert first["unseen"]["accuracy"] >= 0.95
    assert second["unseen"]["accuracy"] >= 0.95
    assert report["seconds"]["learn"] + report["seconds"]["learn_on"] < report["seconds"]["whole"]


def fovea(up: RunningUp, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**ENVIRONMENT, "FOVEA_URL": up.url}
    return subprocess.run([*FOVEA, *arguments], env=environment, capture_output=True, text=True, check=False)
