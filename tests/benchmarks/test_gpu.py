"""The GPU's bench, as far as a machine without one can tell: arguments, words, and a run in small."""

import dataclasses
import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks.gpu import NO_GPU, holds, main, parse, show_serving, show_training, training_kinds
from benchmarks.gpu_serving import InTurn, Served
from benchmarks.gpu_training import Trained
from models.devices import CUDA, cuda_problem


def served(batch: int, *ratios: float) -> list[Served]:
    return [Served("float32", batch, CUDA, 1000 * ratio, 1000, 1250, 1e-5, 1e-5) for ratio in ratios]


@pytest.mark.skipif(cuda_problem() is None, reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == NO_GPU
    said = " ".join(capsys.readouterr().err.split())
    assert "Nothing was measured: there is no NVIDIA driver" in said
    assert "--device cpu" in said


def test_the_bar_is_for_the_largest_batch_in_the_median() -> None:
    assert holds([])
    assert holds([*served(1, 0.2), *served(128, 0.7, 0.91, 0.95)])
    assert not holds([*served(1, 2.0), *served(128, 0.89, 0.85, 2.0)])
    slow = [dataclasses.replace(line, numbers="fp16") for line in served(128, 0.8)]
    assert not holds([*served(128, 1.0), *slow])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--batches", "8", "0"], "--batches must be at least 1"),
        (["--images", "7"], "--images must be at least 8"),
        (["--parts", "cooking"], "invalid choice: 'cooking'"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(arguments)
    assert said in capsys.readouterr().err


def test_one_gpu_is_not_compared_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in (
        (1, [("tutorial", 1), ("fovea", 1)]),
        (4, [("tutorial", 1), ("fovea", 1), ("fovea", 4)]),
    ):
        monkeypatch.setattr(torch.cuda, "device_count", lambda there=there: there)
        assert training_kinds(parse([])) == expected
    assert training_kinds(parse(["--parts", "devices"])) == [("fovea", 1), ("fovea", 4)]
    assert training_kinds(parse(["--parts", "serving"])) == []


def test_tables_show_medians_and_ratios() -> None:
    said = StringIO()
    console = Console(file=said, width=200)
    show_serving([*served(1, 0.5), *served(128, 0.9, 0.8, 1.0)], [InTurn("fp16", 3000.0, 40.0)], console)
    slow = Trained("tutorial", 60.0, 200.0, "float32")
    show_training([slow, dataclasses.replace(slow, name="fovea", seconds=20.0, images_per_second=900.0)], console)
    text = said.getvalue()
    assert "0.90 (0.80 to 1.00)" in text
    assert "0.72 (0.64 to 0.80)" in text
    assert "3000 images/s, 75.0 times raw" in text
    assert "3.00" in text
    assert "4.50" in text


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_runs_in_small_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    small = "--device cpu --model mobilenet_v3_small --batches 1 4 --seconds 0.1 --rounds 1 --images 16 --epochs 1"
    code = main([*small.split(), "--batch-size", "8", "--devices", "2", "--json", str(report)])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "say nothing about a GPU" in printed.out
    found = json.loads(report.read_text())
    assert [(line["batch"], line["difference"] < 1e-3) for line in found["serving"]] == [(1, True), (4, True)]
    assert [line["name"] for line in found["training"]] == ["tutorial", "fovea", "fovea, 2 devices"]
    assert all(line["images_per_second"] > 0 for line in found["training"])
