"""The whole registry: an architecture takes a step and keeps its weights, one of each family exports.

An export takes four fifths of an architecture's time, and within a family the graphs differ in how often a block
comes and how wide it is. So CI exports the smallest of each family, those that have other blocks than it, and
what is ours, and leaves the steps of the largest out; `make test-registry` does all. The architectures that are
taught are exported at their own input size, the others at a smaller one where they take it, which exercises the
same graph. A process to each core does the work, because torch's exporter uses one; the tests wait for its
results.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.pool import AsyncResult
from typing import Any

import pytest
import torch
from support.zoo import CLASSES, check_exports, check_learns, one_thread
from torch import nn

from models.zoo import registry
from models.zoo.build_catalogue import is_classic
from models.zoo.catalogue import describe
from models.zoo.layout import logits_of, split_network, stages

pytestmark = pytest.mark.timeout(1200)

SMALL = 96
FROM_TIMM = ("timm/resnet18", "timm/vit_tiny_patch16_224", "timm/convnext_atto", "timm/mobilenetv4_conv_small")
# What the smallest of its family does not have: bottlenecks; RegNet without squeeze and excitation; Inception v3
# is no larger GoogLeNet.
OTHER_BLOCKS = ("resnet50", "regnet_x_400mf", "inception_v3")
# Ours, of which others have every block: the widths of MobileNet v1, and a VGG with convolutions of 1 x 1.
NO_OTHER_BLOCKS = ("mobilenet_v1", "vgg16_c")
MANY_PARAMETERS = 70e6
ONNX_LIMIT = 2**31
NAMES = registry.names()
# One file of ONNX holds 2 GB, so these two can be trained and not served; their export is refused.
TOO_LARGE = [name for name in NAMES if 4 * describe(name)["totals"]["parameters"] > ONNX_LIMIT]
SERVED = [name for name in NAMES if name not in TOO_LARGE]
MOST_PROCESSES = 4


def exported_in_ci() -> set[str]:
    smallest: dict[tuple[str, str], str] = {}
    for name in sorted(SERVED, key=lambda name: describe(name)["totals"]["parameters"]):
        smallest.setdefault((registry.get(name).source, registry.get(name).family), name)
    ours = {name for name in NAMES if registry.get(name).source == "ours" and not name.startswith(NO_OTHER_BLOCKS)}
    return {*smallest.values(), *ours, *OTHER_BLOCKS, *FROM_TIMM}


EXPORTED_IN_CI = exported_in_ci()


def is_trained_in_ci(name: str) -> bool:
    return name in EXPORTED_IN_CI or describe(name)["totals"]["parameters"] < MANY_PARAMETERS


def all_of_which(is_in_ci: Callable[[str], bool]) -> list[Any]:
    """Every architecture, those in CI marked for it and the others for `make test-registry`."""
    return [
        pytest.param(name, marks=pytest.mark.slow if is_in_ci(name) else pytest.mark.registry)
        for name in (*SERVED, *FROM_TIMM)
    ]


def params_for(name: str) -> dict[str, int]:
    """Vision transformers are built for smaller images, or the largest would take minutes."""
    return {"image_size": SMALL} if name.startswith("vit_") else {}


def size_for(name: str, *, own: bool) -> int:
    """Of the images that it is checked with; the architecture's `own` or a smaller one where it takes that."""
    takes = registry.get(name).input.under(params_for(name))
    auxiliary = bool(registry.get(name).layout.auxiliary)
    return takes.size if takes.fixed or own or auxiliary else max(takes.minimum, min(takes.size, SMALL))


@pytest.fixture(scope="module")
def checks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[tuple[str, str], AsyncResult[None]]]:
    """The checks of every architecture that was selected, under way."""
    folders = tmp_path_factory.mktemp("zoo")
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    spawn = multiprocessing.get_context("spawn")
    # A fresh process now and then gives back the memory that the largest networks took. Not ProcessPoolExecutor,
    # which waits for ever when its processes have all had their last task (Python 3.11).
    with spawn.Pool(processes, one_thread, maxtasksperchild=16) as pool:

        def begin(test: str, name: str) -> AsyncResult[None]:
            if test == test_it_exports_with_parity.__name__:
                size = size_for(name, own=is_classic(name))
                return pool.apply_async(check_exports, (name, size, folders, params_for(name)))
            return pool.apply_async(check_learns, (name, size_for(name, own=False), folders, params_for(name)))

        yield {
            (test, item.callspec.params["name"]): begin(test, item.callspec.params["name"])
            for item in request.session.items
            if (test := getattr(item, "originalname", "")) in WITH_CHECKS
        }


@pytest.mark.parametrize("name", all_of_which(is_trained_in_ci))
def test_it_takes_a_training_step_and_keeps_its_weights(name, checks):
    checks[test_it_takes_a_training_step_and_keeps_its_weights.__name__, name].get()


@pytest.mark.parametrize("name", all_of_which(EXPORTED_IN_CI.__contains__))
def test_it_exports_with_parity(name, checks):
    checks[test_it_exports_with_parity.__name__, name].get()


WITH_CHECKS = {
    test_it_takes_a_training_step_and_keeps_its_weights.__name__,
    test_it_exports_with_parity.__name__,
}


@pytest.mark.slow
def test_only_two_architectures_are_too_large_for_one_onnx_file():
    assert TOO_LARGE == ["regnet_y_128gf", "vit_h_14"]


@pytest.mark.slow
def test_the_largest_takes_a_training_step_without_values():
    with torch.device("meta"):
        network = registry.build("vit_h_14", CLASSES).train()
        logits = logits_of(network(torch.empty(2, 3, 224, 224)))
        nn.functional.cross_entropy(logits, torch.zeros(2, dtype=torch.long)).backward()
    assert logits.shape == (2, CLASSES)
    assert all(p.grad is not None and p.grad.shape == p.shape for p in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("regnet")])
def test_its_smallest_size_works_and_its_parts_make_the_whole(name):
    takes = registry.get(name).input
    size = takes.size if takes.fixed else takes.minimum
    with torch.device("meta"):
        network = registry.build(name, CLASSES).eval()
        backbone, head = split_network(network)
        assert head(backbone.eval()(torch.empty(2, 3, size, size))).shape == (2, CLASSES)
    parts: list[nn.Module] = [*stages(network), head]
    held = sum(p.numel() for part in parts for p in part.parameters())
    assert held <= sum(p.numel() for p in network.parameters())
