"""The whole registry: each architecture builds, counts, trains a step, keeps its weights, exports with parity.

Run by CI in a step of its own. The architectures that are taught are exported at their own input size; the others
at a smaller one where they take it, which exercises the same graph. A process to each core does the work, because
torch's exporter uses one; the tests wait for its results.
"""

import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.pool import AsyncResult

import pytest
import torch
from support.zoo import CLASSES, check_whole, one_thread
from torch import nn

from models.zoo import registry
from models.zoo.catalogue import describe
from models.zoo.cataloguing import is_taught
from models.zoo.layout import split_network, stages

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SMALL = 96
FROM_TIMM = ("timm/resnet18", "timm/vit_tiny_patch16_224", "timm/convnext_atto", "timm/mobilenetv4_conv_small")
ONNX_LIMIT = 2**31
NAMES = registry.names()
# One file of ONNX holds 2 GB, so these two can be trained and not served; their export is refused.
TOO_LARGE = [name for name in NAMES if 4 * describe(name)["totals"]["parameters"] > ONNX_LIMIT]
MOST_PROCESSES = 4


def params_for(name: str) -> dict[str, int]:
    """Vision transformers are built for smaller images, or the largest would take minutes."""
    return {"image_size": SMALL} if name.startswith("vit_") else {}


def size_for(name: str) -> int:
    takes = registry.get(name).input.under(params_for(name))
    auxiliary = bool(registry.get(name).layout.auxiliary)
    return (
        takes.size if takes.fixed or is_taught(name) or auxiliary else max(takes.minimum, min(takes.size, SMALL))
    )


@pytest.fixture(scope="module")
def checks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, AsyncResult[None]]]:
    """The checks of every architecture that was selected, under way."""
    wanted = [
        item.callspec.params["name"]
        for item in request.session.items
        if getattr(item, "originalname", "") == test_it_builds_trains_keeps_its_weights_and_exports.__name__
    ]
    folders = tmp_path_factory.mktemp("zoo")
    processes = min(os.cpu_count() or 1, MOST_PROCESSES)
    spawn = multiprocessing.get_context("spawn")
    # A fresh process now and then gives back the memory that the largest networks took. Not ProcessPoolExecutor,
    # which waits for ever when its processes have all had their last task (Python 3.11).
    with spawn.Pool(processes, one_thread, maxtasksperchild=8) as pool:
        yield {
            name: pool.apply_async(check_whole, (name, size_for(name), folders, params_for(name)))
            for name in wanted
        }


def test_only_two_architectures_are_too_large_for_one_onnx_file():
    assert TOO_LARGE == ["regnet_y_128gf", "vit_h_14"]


@pytest.mark.parametrize("name", [*(name for name in NAMES if name not in TOO_LARGE), *FROM_TIMM])
def test_it_builds_trains_keeps_its_weights_and_exports(name, checks):
    checks[name].get()


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
