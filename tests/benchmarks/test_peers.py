"""Peers of the bench: installed, started, proven and stopped. The one that runs here needs no download."""

import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from support.colours import LABELS, picture
from support.plain import make_plain_artifact

from benchmarks.answers import AnswerWrong, ask, expect
from benchmarks.load import measure_load
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environment import PeerUnavailable, default_cache, install, version
from benchmarks.peers.peer import FOLDER, Launch, Peer, Place
from benchmarks.peers.running import PeerServer
from benchmarks.plain import PlainClassifier, softmax
from benchmarks.server import ServerFailed, Settings
from supply.pins import read_pins

BARE = PEERS["bare-fastapi"]
WITH_ENVIRONMENT = [peer for peer in PEERS.values() if peer.requirements]


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    make_plain_artifact(tmp_path)
    return tmp_path


@pytest.fixture
def photographs(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{colour}.jpg" for colour in LABELS]
    for path in paths:
        path.write_bytes(picture(path.stem, form="JPEG"))
    return paths


def server(artifacts: Path, photographs: list[Path], peer: Peer = BARE, *, wrong: bool = False) -> PeerServer:
    classifier = PlainClassifier(artifacts)

    def probabilities(data: bytes) -> np.ndarray:
        (right,) = softmax(classifier.infer(classifier.prepare(data)))
        return np.roll(right, 1) if wrong else right

    expected = expect(photographs, probabilities)
    return PeerServer(peer, Path(sys.executable), artifacts, expected, {"workers": 2})


def test_a_peer_answers_with_labels_from_its_own_processes_and_leaves_none_behind(
    artifacts: Path, photographs: list[Path]
) -> None:
    with server(artifacts, photographs).start() as running:
        answered = BARE.read(ask(running.target, photographs[2]))
        tree = [process.pid for process in psutil.Process(running.target.pids[BARE.name]).children(recursive=True)]

    assert answered[0]["label"] == "blue"
    assert [found["probability"] for found in answered] == sorted(
        (found["probability"] for found in answered), reverse=True
    )
    assert 0 < running.cold_start_s < 60
    assert len(tree) >= 2
    assert not any(psutil.pid_exists(pid) for pid in tree)
    with pytest.raises(httpx.TransportError):
        httpx.post(running.target.url)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_peer_is_measured_with_all_its_processes(artifacts: Path, photographs: list[Path]) -> None:
    with server(artifacts, photographs).start() as running:
        figure = measure_load(
            "bare-fastapi@2", running.target, photographs, concurrency=2, seconds=0.5, ramp_s=0.2
        )

    assert figure.faults == 0
    assert figure.images > 20
    # Two workers and what watches them share pages: counted once they are less than the sum of all three.
    assert 50 * 2**20 < figure.pss < figure.memory_of[BARE.name]


def test_a_peer_with_other_answers_than_the_model_is_void(artifacts: Path, photographs: list[Path]) -> None:
    with (
        pytest.raises(AnswerWrong, match=r"red\.jpg: class 0 .* says class 1"),
        server(artifacts, photographs, wrong=True).start(),
    ):
        pass


def test_a_peer_that_ends_says_why(artifacts: Path, photographs: list[Path]) -> None:
    def launch(place: Place, _settings: Settings) -> Launch:
        return Launch([str(place.python), "-c", "1 / 0"], "/")

    ends = server(artifacts, photographs, Peer("ends", "fastapi", launch, lambda _cores: [{}]))
    with pytest.raises(ServerFailed, match="ZeroDivisionError"), ends.start():
        pass


def test_the_bare_fastapi_runs_in_foveas_own_environment() -> None:
    python = install(BARE, Path("nowhere"))

    assert python == Path(sys.executable)
    assert version(BARE, python) == f"fastapi {metadata.version('fastapi')}"


@pytest.mark.parametrize("peer", WITH_ENVIRONMENT, ids=lambda peer: peer.name)
def test_a_peer_has_foveas_versions_of_what_does_the_work(peer: Peer) -> None:
    assert peer.requirements is not None
    pins = {pin.name: pin for pin in read_pins(peer.requirements)}

    assert pins[peer.distribution].version
    assert pins["pillow"].version == metadata.version("pillow")
    assert pins["onnxruntime"].version == metadata.version(
        "onnxruntime-gpu" if sys.platform == "linux" and os.uname().machine == "x86_64" else "onnxruntime"
    )


@pytest.mark.parametrize("peer", PEERS.values(), ids=lambda peer: peer.name)
def test_what_serves_imports_of_this_project_only_the_plain_classifier(peer: Peer) -> None:
    folder = FOLDER / peer.name.replace("-", "_")
    serving = [path for path in folder.glob("*.py") if path.name not in ("peer.py", "__init__.py")]

    assert serving
    for path in serving:
        rooms = "benchmarks|models|service|workers|storage|system|cli"
        imported = re.findall(rf"^(?:from|import) ((?:{rooms})[\w.]*)", path.read_text(), re.MULTILINE)
        assert set(imported) == {"benchmarks.plain"}, path


def test_a_peer_that_cannot_be_installed_says_so_and_is_made_anew_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text(f"no-such-package==1 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(Peer, "requirements", pins)
    monkeypatch.setenv("UV_OFFLINE", "1")

    for _ in range(2):
        with pytest.raises(PeerUnavailable, match=r"bare-fastapi could not be installed: uv pip"):
            install(BARE, tmp_path / "cache")


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text("# nothing\n")
    monkeypatch.setattr(Peer, "requirements", pins)

    first = install(BARE, tmp_path / "cache")
    made = first.stat().st_ctime_ns
    again = install(BARE, tmp_path / "cache")

    assert first == again
    assert first.stat().st_ctime_ns == made
    assert first.is_relative_to(tmp_path / "cache")
    assert (first.parent.parent / "pyvenv.cfg").exists()


def test_a_peer_whose_program_is_missing_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(PeerUnavailable, match="torchserve needs java on the PATH"):
        install(PEERS["torchserve"], tmp_path)


def test_peers_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/fovea-bench")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "fovea-bench"


def test_tritons_answer_is_read_out_of_its_binary_form() -> None:
    element = b'[{"index": 3, "label": "\xc3\xa9l\xc3\xa9phant", "probability": 0.5}]'
    tensor = len(element).to_bytes(4, "little") + element
    described = b'{"outputs":[{"name":"CLASSES","parameters":{"binary_data_size":%d}}]}' % len(tensor)

    assert PEERS["triton"].read(described + tensor) == [{"index": 3, "label": "éléphant", "probability": 0.5}]
