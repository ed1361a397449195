"""`fovea models variants` against a real gateway, and against the registry where a job has been at work."""

import json
import re
from pathlib import Path

import pytest
from support.colours import make_colour_artifact
from support.command import Command, command_against
from support.stack import Stack

from models.artifact import read_manifest
from models.variants.report import Recipe, VariantReport
from storage.blobs import BlobStore

PASSED = VariantReport(
    "int8", True, None, 900, 200, 0.98, 0.976, -0.4, (-1.1, 0.3), 0.995, 0.011, 0.012, 0.0021, 0.0014, 1.5,
    Recipe("minmax"),
)  # fmt: skip
REFUSED = VariantReport("fp16", False, "nothing here runs it", 900, 0)


@pytest.fixture
def fovea(stack: Stack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    return command_against(stack.url, capsys, monkeypatch)


@pytest.fixture(scope="module")
def tried(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model whose first version has variants; it is in production, and the second is not."""
    version = stack.publish("models/tried/1", "tried")
    stack.publish("models/tried/2", "tried")
    folder: Path = tmp_path_factory.mktemp("tried")
    make_colour_artifact(folder)
    BlobStore((stack.folder / "blobs").as_uri()).put_folder("models/tried/new", folder)
    variants = {"int8": PASSED.to_dict(), "fp16": REFUSED.to_dict()}
    with stack.registry() as registry:
        registry.replace_artifact(
            "tried", 1, expected=version.artifact, artifact="models/tried/new", size_bytes=7,
            manifest={**read_manifest(folder).to_dict(), "variants": variants},
        )  # fmt: skip
        registry.set_alias("tried", "production", 1)
    return "tried"


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def test_what_was_tried_is_shown_with_how_it_did(fovea: Command, tried: str) -> None:
    for reference in (tried, f"{tried}:1", f"{tried}@production"):
        first, _, header, passed, refused = fovea("models", "variants", reference).out.splitlines()
        assert first == "tried:1 can be asked for float32, int8"
        assert cells(header) == [
            "precision", "passed", "accuracy", "difference", "agreement", "speed-up", "reason",
        ]  # fmt: skip
        assert cells(passed) == ["int8", "yes", "97.6 %", "-0.4 (-1.1 to +0.3)", "99.5 %", "1.50"]
        assert cells(refused) == ["fp16", "no", "nothing here runs it"]


def test_everything_of_it_is_there_as_json(fovea: Command, tried: str) -> None:
    found = json.loads(fovea("models", "variants", tried, "--json").out)
    assert found["precisions"] == ["float32", "int8"]
    assert found["variants"] == {"int8": PASSED.to_dict(), "fp16": REFUSED.to_dict()}


def test_where_none_was_tried_it_says_how_to(fovea: Command, tried: str) -> None:
    said = fovea("models", "variants", f"{tried}@latest").out
    assert said == "No variant of tried:2 was tried yet: fovea models variants tried:2 --dataset DATASET\n"


def test_a_job_need_not_be_waited_for(fovea: Command, tried: str) -> None:
    for more, precisions in (((), "auto"), (("--precision", "fp16"), ["fp16"])):
        said = fovea("models", "variants", tried, "--dataset", "builtin:digits", *more, "--no-wait")
        job = re.match(r"(job_\w+) is queued; watch it: fovea jobs watch \1$", said.out)
        assert job
        shown = json.loads(fovea("jobs", "show", job[1], "--json").out)
        assert (shown["kind"], shown["request"]["precisions"]) == ("variants", precisions)
        assert fovea("jobs", "cancel", job[1]).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nobody",), 1, "404 unknown_model"),
        (("tried:99",), 1, "404 unknown_version"),
        (("tried@canary",), 1, "canary"),
        (("tried@@",), 1, "tried@@"),
        (("tried", "--precision", "int8"), 2, "--dataset"),
        (("tried", "--dataset", "ds_none"), 1, "404 unknown_dataset"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    fovea: Command, tried: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    answer = fovea("models", "variants", *arguments)
    assert (answer.code, said in answer.err) == (code, True), answer.err
    assert code == 2 or answer.err.count("\n") == 1
