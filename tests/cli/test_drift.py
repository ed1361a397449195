"""`fovea models drift` and the client's `models.drift`, against a real gateway and worker."""

import json
import re
import time

import pytest
from support.command import Command, command_against
from support.drifting import make_drifting_artifact, pictures
from support.stack import Stack

from fovea_client import Drift, NotFound
from storage.blobs import BlobStore


@pytest.fixture
def fovea(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(stack.url, capsys, monkeypatch)


@pytest.fixture(scope="module")
def blue(stack: Stack) -> str:
    """A model that was sent one of its three colours alone."""
    folder = stack.folder / "made" / "blue"
    manifest = make_drifting_artifact(folder)
    BlobStore((stack.folder / "blobs").as_uri()).put_folder("models/blue/job_1", folder)
    with stack.registry() as registry:
        registry.add_version("blue", artifact="models/blue/job_1", manifest=manifest.to_dict(), size_bytes=1)
    images = pictures(121, colours=["blue"], seed=2)
    with stack.client() as client:
        for start in range(0, 120, 40):
            client.classify(images[start : start + 40], model="blue")
        time.sleep(1.1)
        client.classify(images[-1], model="blue")
    return "blue"


def test_the_verdict_stands_first_and_every_comparison_below(fovea: Command, blue: str) -> None:
    for reference in (blue, "blue:1", "blue@latest"):
        first, conclusion, _, header, *rows = fovea("models", "drift", reference).out.splitlines()
        assert re.fullmatch(r"blue:1, day, since \d{4}-\d\d-\d\d \d\d:00: DRIFT", first)
        assert "more blue than among the validation images" in conclusion
        assert re.split(r"\s{2,}", header.strip()) == ["quantity", "distance", "adjusted p", "drifted"]
        assert [re.split(r"\s{2,}", row.strip())[0] for row in rows] == [
            *(f"probability of {colour}" for colour in ("red", "green", "blue")),
            "top probability", "entropy", "embedding",
        ]  # fmt: skip


def test_everything_of_it_is_there_as_json(fovea: Command, blue: str) -> None:
    found = json.loads(fovea("models", "drift", blue, "--window", "hour", "--json").out)
    assert (found["window"], found["state"], found["images"]) == ("hour", "drift", 121)
    assert {each["label"] for each in found["quantities"]} == {"red", "green", "blue", None}


def test_where_there_is_nothing_to_say_it_says_why(fovea: Command) -> None:
    first, conclusion = fovea("models", "drift", "colours").out.splitlines()
    assert first == "colours:1, day: nothing to say"
    assert conclusion.startswith("colours:1 has nothing to compare served images with.")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nobody",), 1, "404 unknown_model"),
        (("colours:99",), 1, "404 unknown_version"),
        (("colours", "--window", "week"), 2, "week"),
    ],
)
def test_what_is_wrong_is_said(fovea: Command, arguments: tuple[str, ...], code: int, said: str) -> None:
    answer = fovea("models", "drift", *arguments)
    assert (answer.code, said in answer.err) == (code, True), answer.err


def test_the_client_has_it_as_a_record(stack: Stack, blue: str) -> None:
    with stack.client() as client:
        found = client.models.drift(blue)
        assert isinstance(found, Drift)
        assert (found.state, found.images) == ("drift", 121)
        assert found.since
        assert found.until
        assert found.since.tzinfo is not None
        assert max(each.distance for each in found.quantities) > 0.3
        assert found.embedding
        assert found.embedding.name == "embedding"
        assert client.models.drift("colours", 1, window="all").quantities == ()
        with pytest.raises(NotFound):
            client.models.drift("nobody")
