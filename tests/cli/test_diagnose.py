"""`fovea datasets diagnose` against a real gateway, and a real training worker."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.colours import LABELS, picture
from support.command import Command, command_against
from support.embedding import make_embedding_artifact
from support.stack import Stack, running_stack

from models.artifact import read_manifest
from storage.blobs import BlobStore


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("seeing")
    with running_stack(folder, {"FOVEA_TRAINING_DEVICE": "cpu"}) as service:
        make_embedding_artifact(folder / "artifact")
        BlobStore(f"file://{service.folder / 'blobs'}").put_folder("models/seeing/1", folder / "artifact")
        with service.registry() as registry:
            manifest = read_manifest(folder / "artifact").to_dict()
            registry.add_version("seeing", artifact="models/seeing/1", manifest=manifest, size_bytes=1)
        service.publish("models/blind/1/", model="blind")
        yield service


@pytest.fixture
def fovea(seeing: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(seeing.url, capsys, monkeypatch)


@pytest.fixture
def dataset(fovea: Command, tmp_path: Path) -> str:
    """Of each colour twelve, of which one red is called green."""
    for k, colour in enumerate(LABELS):
        for i in range(12):
            folder = tmp_path / "photos" / ("green" if (colour, i) == ("red", 4) else colour)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{colour}{i}.png").write_bytes(picture(colour, noise=1 + i + 100 * k))
    found: str = json.loads(fovea("datasets", "create", tmp_path / "photos", "--json").out)["id"]
    return found


def test_it_need_not_be_waited_for(fovea: Command, dataset: str) -> None:
    said = fovea("datasets", "diagnose", dataset, "--model", "seeing", "--no-wait")
    assert said.out.startswith("job_")
    assert "watch it: fovea jobs watch job_" in said.out
    fovea("jobs", "cancel", said.out.split()[0])
    said = fovea("datasets", "diagnose", dataset, "--model", "seeing", "--no-wait", "--json")
    assert json.loads(said.out)["kind"] == "diagnose"
    fovea("jobs", "cancel", json.loads(said.out)["id"])
    refused = fovea("datasets", "diagnose", dataset, "-m", "seeing", "--no-wait", "-o", "page.html")
    assert (refused.code, "before the job has ended" in refused.err) == (2, True)


def test_a_version_that_gives_no_embedding_is_refused_in_words(fovea: Command, dataset: str) -> None:
    said = fovea("datasets", "diagnose", dataset, "--model", "blind")
    assert (said.code, "blind:1 gives no embedding" in said.err) == (1, True)
    assert fovea("datasets", "diagnose", dataset).code == 2


@pytest.mark.slow
def test_the_worst_are_shown_and_a_page_is_written(
    fovea: Command, seeing: Stack, dataset: str, tmp_path: Path
) -> None:
    seeing.start_process("training")
    page = tmp_path / "page.html"
    said = fovea("datasets", "diagnose", dataset, "--model", "seeing", "--output", page)
    assert said.code == 0, said.err
    rows = [line.split() for line in said.out.splitlines()]
    assert rows[0] == ["what", "image", "label", "rather", "score"]
    assert rows[1][:5] == ["wrong", "label", "green/red4.png", "green", "red"]
    assert "1 of 36 labels are probably wrong" in said.out
    assert "green/red4.png" in page.read_text("utf-8")
    said = fovea("datasets", "diagnose", dataset, "--model", "seeing", "--json")
    assert json.loads(said.out)["wrong_labels"]["total"] == 1
