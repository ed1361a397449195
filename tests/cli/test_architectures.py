"""`fovea architectures`: the zoo listed without torch, and one network with its layers."""

import json
import resource
import subprocess
import sys

import pytest
from support.command import fovea

PROGRAM = """
import sys
from cli.main import app
app(sys.argv[1:], standalone_mode=False)
print([m for m in ("torch", "torchvision", "timm") if m in sys.modules], file=sys.stderr)
"""


def run_and_name_the_heavy(*arguments: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout, done.stderr.strip()


def test_the_list_shows_the_whole_zoo_quickly_and_without_torch() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    said, heavy = run_and_name_the_heavy("architectures", "list")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 3
    assert heavy == "[]"
    lines = said.splitlines()
    assert len(lines) > 1400
    assert lines[1].split()[:4] == ["lenet5", "1998", "LeNet", "ours"]
    assert any(line.startswith("timm/vit_base_patch16_224 ") for line in lines)


def test_words_narrow_the_list() -> None:
    said = fovea("architectures", "list", "vgg", "ours").stdout.splitlines()
    assert [line.split()[0] for line in said[1:3]] == ["vgg11_lrn", "vgg16_c"]
    assert said[-1].startswith("2 architectures")


def test_the_list_as_json_is_for_machines() -> None:
    entries = json.loads(fovea("architectures", "list", "--source", "ours", "--json").stdout)
    assert {entry["source"] for entry in entries} == {"ours"}
    assert next(e for e in entries if e["name"] == "lenet5")["totals"]["parameters"] == 146_156


def test_an_architecture_is_shown_with_paper_departures_weights_and_layers_without_torch() -> None:
    said, heavy = run_and_name_the_heavy("architectures", "show", "mobilenet_v1_025")
    assert heavy == "[]"
    assert "https://arxiv.org/abs/1704.04861" in said
    assert "departs from the paper: stride-2 layers pad right and bottom only" in said
    assert "weights: imagenet (default)" in said
    assert "features.13.pointwise.conv" in said
    assert "multiply-adds: 41,0" in said


def test_another_size_batch_and_class_count_are_computed() -> None:
    said = fovea("architectures", "show", "resnet18", "--input", "64", "--batch", "2", "--classes", "5", "--json")
    shown = json.loads(said.stdout)
    assert shown["totals"]["input"] == [2, 3, 64, 64]
    assert shown["layers"][-1]["output"] == [2, 5]


def test_the_table_in_markdown() -> None:
    said = fovea("architectures", "show", "lenet5", "--format", "markdown").stdout
    assert "| features.0 | Conv2d | 1x6x28x28 | 5 | 1 | 0 | 456 |" in said


def test_a_pattern_is_shown_or_refused_with_its_place() -> None:
    shown = fovea("architectures", "show", "convnet", "--pattern", "INPUT -> CONV -> FC", "--input", "8")
    assert "32x8x8" in shown.stdout
    refused = fovea("architectures", "show", "convnet", "--pattern", "INPUT -> POOL -> FC", "--input", "7")
    assert refused.returncode == 1
    assert "(7 - 2 + 2*0)/2 + 1 = 3.50" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "resnet81"), "did you mean resnet18"),
        (("show", "alexnet_2012", "--input", "224"), "227x227 images only"),
        (("list", "--source", "keras"), "'keras' is not one of"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_by_the_exit_code(arguments: tuple[str, ...], said: str) -> None:
    done = fovea("architectures", *arguments)
    assert done.returncode != 0
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
