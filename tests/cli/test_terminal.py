"""What a person sees at a terminal of 80 columns, or 60: whole words, a bar that stays, and questions."""

import re
import sys
from pathlib import Path

import pytest
from support.colours import picture
from support.stack import Stack
from support.terminal import FOVEA, Seen, in_terminal

WIDTHS = (60, 80)
IN_ASCII = {"PYTHONIOENCODING": "ascii"}
PROGRESS = """
import time
from cli.encoding import never_fail_to_print
never_fail_to_print()
from rich.console import Console
from cli.job_progress import JobProgress
from cli.transfer import Transfer
from fovea_client import Job
progress = {"phase": "training", "epoch": 13, "epochs": 20, "loss": 1.2345, "accuracy": 0.978,
            "validation_accuracy": 0.951, "images_per_second": 1234.5, "eta_s": 3905}
with JobProgress("job_01M892WA9F3ET9CYVWJ89RNVT9", Console(stderr=True)) as shown:
    shown.show(Job("job_1", "finetune", "running", progress=progress, _session=None))
    time.sleep(0.4)
with Transfer("sending photographs-of-the-summer-of-2026-in-full-size", 600_000_000) as shown:
    for step in range(1, 9):
        shown.reach(step * 50_000_000)
        time.sleep(0.1)
"""


def frames(seen: Seen) -> list[str]:
    """Each state of the moving bar, its lines joined: a frame begins where the cursor went back to the left."""
    text = seen.text.replace("\r\n", "\n")
    return [" ".join(frame.split()) for frame in text.split("\r") if frame.strip()]


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("environment", [{}, IN_ASCII], ids=["utf-8", "ascii"])
def test_the_bar_the_speed_and_the_time_left_are_never_cut(columns: int, environment: dict[str, str]) -> None:
    seen = in_terminal([sys.executable, "-c", PROGRESS], columns, environment=environment)
    assert seen.code == 0, seen.text
    summary = "sending photographs-of-the-summer-of-2026-in-full-size: "
    assert [line for line in seen.lines if len(line) > columns and not line.startswith(summary)] == []
    bar = "-" if environment else "━"
    training = next(frame for frame in frames(seen) if "images/s" in frame)
    assert training.count(bar) >= 8
    assert "job_01M892WA9F3ET9CYVWJ89RNVT9" in training
    assert "training, epoch 13 of 20, loss 1.234, accuracy 97.8 %, validation 95.1 %" in training
    assert "1234 images/s, 1:05:05 left" in training
    sending = next(frame for frame in frames(seen) if re.search(r"of 600\.0 MB, [\d.]+ MB/s, \d:\d\d left", frame))
    assert sending.count(bar) >= 1
    assert "sending photographs" in sending
    assert seen.text.isascii() or not environment


@pytest.mark.parametrize("columns", WIDTHS)
def test_ids_and_names_in_tables_can_be_copied(stack: Stack, columns: int) -> None:
    with stack.client() as client:
        client.models.set_alias("colours", "production", 1)
        job = client.finetune(
            model="a-model-with-a-long-name", dataset="builtin:digits", architecture="lenet5", weights="none"
        )
        job.cancel()
    commands = (
        (("jobs", "list"), (job.id, "a-model-with-a-long-name", "cancelled")),
        (("jobs", "show", job.id), (job.id, "request.validation.fraction", "builtin:digits")),
        (("models", "list"), ("colours", "production:")),
        (("models", "show", "colours"), ("version", "1", "production")),
        (("models", "alias", "colours", "production"), ("version", "1")),
        (("architectures", "show", "mobilenet_v1_025"), ("features.13.pointwise.conv", "https://arxiv.org/abs/1704.04861")),
        (("architectures", "list", "vgg"), ("architecture", "timm/repvgg_b1g4")),
        (("weights", "list", "mobilenet_v1_025"), ("mobilenet_v1_025", "Apache-2.0")),
    )  # fmt: skip
    for command, words in commands if columns == 80 else commands[:4]:
        seen = in_terminal([*FOVEA, *command], columns, environment={"FOVEA_URL": stack.url})
        assert seen.code == 0, seen.text
        shown = {word for line in seen.lines for word in re.split("[ ,]+", line)}
        assert {word for word in words if word not in shown} == set(), seen.text
        # A sentence below a table may be longer: the terminal folds it.
        assert [line for line in seen.lines if len(line) > columns and "; " not in line] == []


def test_columns_that_have_no_room_are_left_out_and_named(stack: Stack) -> None:
    seen = in_terminal([*FOVEA, "models", "show", "colours"], 60, environment={"FOVEA_URL": stack.url})
    assert "left out for want of room: job" in seen.text
    wide = in_terminal([*FOVEA, "models", "show", "colours"], 160, environment={"FOVEA_URL": stack.url})
    assert "left out" not in wide.text


def test_a_files_long_name_stands_above_its_classes(stack: Stack, tmp_path: Path) -> None:
    image = tmp_path / "a-photograph-of-the-sky-with-a-name-that-goes-on-and-on.png"
    image.write_bytes(picture("blue"))
    command = [*FOVEA, "classify", image, "--top-k", 2]
    seen = in_terminal(command, 80, environment={"FOVEA_URL": stack.url, **IN_ASCII})
    assert seen.code == 0, seen.text
    assert "#" in seen.text
    name, best, *_ = (line for line in seen.lines if line.strip() and not line.startswith("by colours"))
    assert name == str(image)
    assert best.split()[0] == "blue"


@pytest.mark.parametrize(("typed", "code"), [("n\n", 1), ("\n", 1), ("y\n", 0)])
def test_a_deletion_is_asked_for_at_a_terminal(stack: Stack, typed: str, code: int) -> None:
    with stack.registry() as registry:
        registry.set_alias("colours", "canary", 1)
    command = [*FOVEA, "models", "alias", "colours", "canary", "--delete"]
    seen = in_terminal(command, 80, typed=typed, environment={"FOVEA_URL": stack.url})
    assert seen.code == code
    assert "Delete colours@canary?" in seen.text
    with stack.registry() as registry:
        assert ("canary" in registry.get_model("colours").aliases) == (code != 0)
