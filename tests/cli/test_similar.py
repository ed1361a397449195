"""`fovea similar` and `fovea embed` against a real gateway and inference worker."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support.colours import LABELS, picture
from support.command import Command, command_against
from support.stack import Stack
from support.taught import publish_taught

PICTURES = {f"{colour}/{n}.png": picture(colour, noise=1 + 10 * n) for colour in LABELS for n in range(3)}


@pytest.fixture(scope="module", autouse=True)
def dataset(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pictures")
    for name, data in PICTURES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    with stack.client() as client:
        found = client.datasets.create(folder)
    publish_taught(stack, "taught", PICTURES, {"id": found.id, "name": found.name})
    publish_taught(stack, "orphan", PICTURES, {"id": "ds_gone", "name": "gone"})
    return found.id


@pytest.fixture
def fovea(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(stack.url, capsys, monkeypatch)


@pytest.fixture
def sky(tmp_path: Path) -> Path:
    image = tmp_path / "sky.png"
    image.write_bytes(PICTURES["blue/1.png"])
    return image


def test_each_image_has_its_training_images_in_a_table(fovea: Command, sky: Path) -> None:
    said = fovea("similar", sky, "-m", "taught", "-k", "3")
    assert (said.code, said.err) == (0, "")
    _, *rows = [re.split(r"\s{2,}", line.strip()) for line in said.out.splitlines()]
    assert (rows[0][0], rows[0][1], len(rows)) == (str(sky), "blue", 3)
    assert {row[-1] for row in rows} == {f"blue/{n}.png" for n in range(3)}
    assert float(rows[0][2]) < 0.001


def test_one_broken_file_leaves_the_others_answered(fovea: Command, sky: Path, dataset: str) -> None:
    broken = sky.with_name("broken.png")
    broken.write_bytes(b"no image")
    said = fovea("similar", broken, sky, "-m", "taught", "-k", "1", "--json")
    assert said.code == 1
    first, second = json.loads(said.out)["results"]
    assert first == {"file": str(broken), "error": {"code": "not_an_image", "detail": first["error"]["detail"]}}
    assert (second["similar"][0]["label"], second["dataset"]["id"]) == ("blue", dataset)
    assert "not_an_image" in said.err


def test_of_a_deleted_dataset_checksums_stand_for_the_names(fovea: Command, sky: Path) -> None:
    said = fovea("similar", sky, "-m", "orphan", "-k", "1")
    assert said.code == 0
    assert re.search(r"blue +0\.000 +sha256 [0-9a-f]{12}", said.out)
    assert "ds_gone was deleted" in said.err


def test_embeddings_are_written_for_numpy_and_as_json(fovea: Command, sky: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    said = fovea("embed", sky, sky, "-m", "taught", "--output", output)
    assert (said.code, said.err) == (0, "")
    rows = np.load(output)
    assert (rows.dtype, rows.shape, int(rows[0].argmax())) == (np.float32, (2, 3), 2)
    told = json.loads(fovea("embed", sky, "-m", "taught", "--json").out)["results"]
    assert told[0]["embedding"] == rows[0].tolist()
    refused = fovea("embed", sky, "-m", "colours")
    assert (refused.code, refused.out) == (1, "")
    assert "has no embedding" in refused.err
