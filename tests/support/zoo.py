"""What every architecture must be able to do, as checks that the quick and the slow tests share."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from models.artifact import MODEL
from models.export import export
from models.filters.deep_layers import choose_layers
from models.filters.kernels import NoKernels, kernels_of_graph
from models.normalise import Normalise
from models.parity import ParityReport
from models.photographs import photographs
from models.spec import EMBEDDING, FEATURE_MAP, INPUT, OUTPUTS, Preprocessing
from models.summary import summarize
from models.weights.loading import fit
from models.weights.reading import read_state
from models.zoo import registry
from models.zoo.layout import first_convolution, is_separable, logits_of, split_network

CLASSES = 10
# How much of the loss the step is to take away, by the gradient's own forecast.
FORECAST = 0.01
MOST_AMPLIFIED = 1e3


def preprocessing_at(size: int) -> Preprocessing:
    return Preprocessing(height=size, width=size, resize=size)


def as_input(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.25)


def check_training_step(network: nn.Module, images: NDArray[np.uint8]) -> None:
    """One step against the gradient lowers the loss on its batch, auxiliary losses included."""
    batch, labels = as_input(images[:4]), torch.arange(4) % CLASSES
    network.train()
    before = _loss(network, batch, labels)
    before.backward()
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    length = sum(float(g.double().pow(2).sum()) for g in gradients)
    assert length > 0, "no gradient reaches any parameter"
    rate = FORECAST * before.item() / length
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad
        after = _loss(network, batch, labels)
    network.zero_grad()
    assert after < before, f"{before.item()} -> {after.item()}"


def _loss(network: nn.Module, batch: Tensor, labels: Tensor) -> Tensor:
    torch.manual_seed(1)  # the same units drop out before and after the step
    output = network(batch)
    loss = nn.functional.cross_entropy(logits_of(output), labels)
    for auxiliary in () if isinstance(output, Tensor) else output[1:]:
        loss = loss + 0.3 * nn.functional.cross_entropy(auxiliary, labels)
    return loss


def check_round_trip(network: nn.Module, folder: Path, images: NDArray[np.uint8]) -> None:
    """Saved, read and fitted into a fresh network, the weights give the same answers."""
    made = registry.built(network)
    path = folder / "weights.safetensors"
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    other = registry.build(made.architecture.name, made.num_classes, made.channels, **made.params)
    assert fit(other, read_state(path), path.name).new_head == ()
    path.unlink()
    with torch.no_grad():
        assert torch.equal(other.eval()(as_input(images[:2])), network.eval()(as_input(images[:2])))


def check_export(network: nn.Module, folder: Path, size: int, images: NDArray[np.uint8]) -> ParityReport:
    """The exported graph passes the parity gate at batch 1, 3 and 8, with logits that differ between images.

    The network's head is rescaled for that, in place.
    """
    report = export(
        spread_logits(network.eval(), images),
        folder,
        preprocessing=preprocessing_at(size),
        labels=[f"class {i}" for i in range(CLASSES)],
        images=images,
    )
    assert report.passed
    assert report.batch_sizes == (1, 3, 8)
    check_feature_outputs(network, folder / MODEL, size, images)
    check_filters(network, folder / MODEL, size)
    return report


def check_feature_outputs(network: nn.Module, model: Path, size: int, images: NDArray[np.uint8]) -> None:
    """The graph's embedding is what the network's own backbone computes, or its mean where that is a map."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    given = {output.name for output in session.get_outputs()} - set(OUTPUTS)
    if not is_separable(network):
        return
    assert EMBEDDING in given
    with torch.no_grad():
        features = split_network(network).backbone(Normalise(preprocessing_at(size))(torch.from_numpy(images)))
    expected = features.mean((2, 3)) if features.ndim == 4 else features
    (embedding,) = session.run([EMBEDDING], {INPUT: images})
    np.testing.assert_allclose(embedding, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
    if FEATURE_MAP in given:
        (feature_map,) = session.run([FEATURE_MAP], {INPUT: images})
        batch, _, height, width = feature_map.shape
        assert batch == len(images)
        assert 1 < max(height, width) <= size // 2


def check_filters(network: nn.Module, model: Path, size: int) -> None:
    """Its first kernels can be seen, or it says why; windows are as large as by the summary of the network."""
    graph = onnx.load(model)
    kernels = kernels_of_graph(graph)
    if isinstance(kernels, NoKernels):
        assert not any(isinstance(module, nn.Conv2d) for module in network.modules()), kernels.reason
    else:
        name, first = first_convolution(network)
        assert (kernels.name, kernels.weights.shape) == (name, tuple(first.weight.shape))
    by_summary = {row.name: row.receptive_field for row in summarize(network, size).layers}
    for layer in choose_layers(graph).layers:
        if not layer.windows.gated:
            assert layer.windows.size == by_summary[layer.name], layer.name


def spread_logits(network: nn.Module, images: NDArray[np.uint8]) -> nn.Module:
    """Rescales the head so that each class's logits spread by about 1 over the images.

    An untrained network answers nearly the same to every image, and then parity would prove nothing.
    """
    layer = [m for m in split_network(network).head.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    with torch.no_grad():
        spread = network((torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.45) / 0.225).std(0).mean().item()
        layer.weight *= min(1 / max(spread, 1e-12), MOST_AMPLIFIED)
    return network


def real_images(size: int) -> NDArray[np.uint8]:
    return photographs(preprocessing_at(size), 8)


def one_thread() -> None:
    """Prepares a process of which there is one to each core."""
    torch.set_num_threads(1)
    warnings.simplefilter("error")


def check_learns(name: str, size: int, folders: Path, params: dict[str, Any]) -> None:
    """A training step of the architecture, and its weights saved and read again."""
    with _folder(folders, name) as folder:
        images, network = _prepared(name, size, params)
        check_training_step(network, images)
        check_round_trip(network, folder, images)


def check_exports(name: str, size: int, folders: Path, params: dict[str, Any]) -> None:
    """The architecture's export after a training step, by the parity gate."""
    with _folder(folders, name) as folder:
        images, network = _prepared(name, size, params)
        check_training_step(network, images)
        check_export(network, folder, size, images)


def _prepared(name: str, size: int, params: dict[str, Any]) -> tuple[NDArray[np.uint8], nn.Module]:
    torch.manual_seed(0)
    return real_images(size), registry.build(name, CLASSES, **params)


@contextmanager
def _folder(folders: Path, name: str) -> Iterator[Path]:
    """Gone afterwards: all exports together need more disk than there may be."""
    folder = Path(tempfile.mkdtemp(prefix=name.replace("/", "--"), dir=folders))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
