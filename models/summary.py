"""Fills the layer table of a network: runs it without values and notes what each layer does.

The network runs on torch's `meta` device, so even the largest takes no memory.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from models.errors import InvalidArchitecture
from models.layer_table import LayerRow, NetworkSummary
from models.zoo import registry
from models.zoo.receptive_field import ReceptiveFields, field_of, mark_image

FLOAT_BYTES = 4
# Called as one layer, though their parts are modules too.
WHOLE = (nn.MultiheadAttention,)


def summarize_architecture(
    name: str, size: int | None = None, batch: int = 1, num_classes: int = 1000, channels: int = 3, **params: Any
) -> NetworkSummary:
    """The table of a zoo architecture at `size` x `size` pixels, by default its own input size.

    Raises UnknownArchitecture, and InvalidArchitecture for parameters or a size that it does not take.
    """
    entry = registry.get(name)
    takes = entry.input.under(params)
    height = takes.size if size is None else size
    takes.check(name, height, height)
    return summarize(_without_values(name, num_classes, channels, params), height, batch)


def summarize(network: nn.Module, size: int, batch: int = 1) -> NetworkSummary:
    """The table of a network of the registry's, for `batch` square images of `size` pixels; it stays as it is."""
    made = registry.built(network)
    skeleton = copy.deepcopy(network).to("meta").eval()
    image = torch.empty(batch, made.channels, size, size, device="meta")
    mark_image(image)
    counter = FlopCounterMode(display=False)
    with _recorded(skeleton) as rows, torch.no_grad(), counter, ReceptiveFields():
        skeleton(image)
    total = counter.get_total_flops() // 2
    layers = (*rows, *_silent(skeleton, {row.name for row in rows}))
    return NetworkSummary(
        name=made.architecture.name,
        input=(batch, made.channels, size, size),
        layers=layers,
        parameters=_count(network),
        auxiliary_parameters=sum(
            _count(network.get_submodule(path))
            for path in made.architecture.layout.auxiliary
            if path in dict(network.named_modules())
        ),
        input_bytes=image.numel() * FLOAT_BYTES,
        memory_bytes=sum(layer.memory_bytes for layer in layers),
        multiply_adds=total,
        outside_multiply_adds=total - sum(layer.multiply_adds for layer in layers),
    )


def _without_values(name: str, num_classes: int, channels: int, params: dict[str, Any]) -> nn.Module:
    """The network on the meta device, where it takes no memory; RegNet computes while it builds, on a real one."""
    try:
        with torch.device("meta"):
            return registry.build(name, num_classes, channels, **params)
    except (InvalidArchitecture, NotImplementedError, RuntimeError):
        return registry.build(name, num_classes, channels, **params)


@contextmanager
def _recorded(network: nn.Module) -> Iterator[list[LayerRow]]:
    """Fills the list with a row for each layer that runs, in order; a layer that runs twice has two rows."""
    rows: list[LayerRow] = []
    handles = []
    for name, module in network.named_modules():
        if _is_layer(module) and not any(name.startswith(f"{whole}.") for whole in _wholes(network)):
            handles.append(module.register_forward_hook(_recorder(name, rows)))
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()


def _is_layer(module: nn.Module) -> bool:
    """A module without parts, or with parameters of its own beside its parts."""
    leaf = next(module.children(), None) is None
    return isinstance(module, WHOLE) or leaf or any(True for _ in module.parameters(recurse=False))


def _wholes(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, WHOLE)]


def _recorder(name: str, rows: list[LayerRow]) -> Any:
    def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        result = _first_tensor(output)
        if result is None:
            return
        field = field_of(result)
        leaf = next(module.children(), None) is None
        rows.append(
            LayerRow(
                name=name,
                kind=type(module).__name__,
                output=tuple(result.shape),
                kernel=_both(getattr(module, "kernel_size", None)),
                stride=_both(getattr(module, "stride", None)),
                padding=_both(getattr(module, "padding", None)),
                parameters=_own_parameters(module) if name not in {row.name for row in rows} else 0,
                memory_bytes=result.numel() * FLOAT_BYTES if leaf and not _same_memory(inputs, result) else 0,
                multiply_adds=_multiply_adds(module, result),
                receptive_field=None if field is None else field.size,
            )
        )

    return record


def _silent(network: nn.Module, seen: set[str]) -> list[LayerRow]:
    """Rows for what holds parameters but did not run: auxiliary heads, weights that a parent uses directly."""
    covered = tuple(f"{whole}." for whole in _wholes(network))
    return [
        LayerRow(name, type(module).__name__, None, None, None, None, own, 0, 0, None)
        for name, module in network.named_modules()
        if name not in seen and not name.startswith(covered) and (own := _own_parameters(module))
    ]


def _own_parameters(module: nn.Module) -> int:
    recurse = isinstance(module, WHOLE)
    return sum(p.numel() for p in module.parameters(recurse=recurse))


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return output.numel() * module.weight[0].numel()
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    return 0


def _same_memory(inputs: Sequence[Any], output: Tensor) -> bool:
    """Whether the output lies where the input lay: worked in place, or only seen in another shape."""
    given = _first_tensor(inputs)
    return given is not None and given.untyped_storage()._cdata == output.untyped_storage()._cdata


def _first_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, list | tuple):
        return next((found for item in value if (found := _first_tensor(item)) is not None), None)
    return None


def _both(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, int) for v in value):
        return value[0], value[1]
    return None
