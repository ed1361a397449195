"""How many pixels of the image each value of a tensor depends on, followed through any network as it runs.

Knows convolutions, pools and what keeps or flattens a map. Attention and window shuffling end the trace: from
there on a value depends on no fixed window, and nothing is claimed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

ATTRIBUTE = "fovea_receptive_field"
Pair = tuple[int, int]


@dataclass(frozen=True)
class Field:
    """`size` is the window in the image, `jump` the pixels from one window to the next; height and width."""

    size: Pair = (1, 1)
    jump: Pair = (1, 1)

    def through(self, kernel: Pair, stride: Pair, dilation: Pair = (1, 1)) -> "Field":
        size = tuple(
            s + (k - 1) * d * j for s, k, d, j in zip(self.size, kernel, dilation, self.jump, strict=True)
        )
        jump = tuple(j * s for j, s in zip(self.jump, stride, strict=True))
        return Field((size[0], size[1]), (jump[0], jump[1]))


class ReceptiveFields(TorchFunctionMode):
    """While active, every tensor computed from a marked one is marked with its own field, or not at all."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[Any], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        source = _joined(args)
        if source is not None:
            tensor, field = source
            for result in [output] if isinstance(output, Tensor) else _tensors(output):
                after = _after(getattr(func, "__name__", ""), field, tensor, args, kwargs, result)
                if after is None:
                    vars(result).pop(ATTRIBUTE, None)
                else:
                    setattr(result, ATTRIBUTE, after)
        return output


def mark_image(image: Tensor) -> None:
    """Declares a tensor [batch, channels, height, width] to be the image."""
    setattr(image, ATTRIBUTE, Field())


def field_of(tensor: Tensor) -> Field | None:
    found = getattr(tensor, ATTRIBUTE, None)
    return found if isinstance(found, Field) else None


def _joined(args: Iterable[Any]) -> tuple[Tensor, Field] | None:
    """The largest of the marked tensors, and the field of what is computed from all of them together.

    The jump is the finest map's: a squeeze-and-excitation gate is one value that is spread over a whole map.
    """
    marked = [(t, f) for t in _tensors(args) if (f := field_of(t)) is not None]
    if not marked:
        return None
    size = tuple(max(f.size[axis] for _, f in marked) for axis in (0, 1))
    jump = tuple(min(f.jump[axis] for _, f in marked) for axis in (0, 1))
    return max((t for t, _ in marked), key=Tensor.numel), Field((size[0], size[1]), (jump[0], jump[1]))


def _tensors(values: Any) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, list | tuple):
        return [tensor for value in values for tensor in _tensors(value)]
    return []


def _after(
    name: str, field: Field, source: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Tensor
) -> Field | None:
    if name == "conv2d":
        given = _given(("input", "weight", "bias", "stride", "padding", "dilation", "groups"), args, kwargs)
        weight: Tensor = given["weight"]
        kernel = (weight.shape[-2], weight.shape[-1])
        return field.through(kernel, _pair(given.get("stride", 1)), _pair(given.get("dilation", 1)))
    if name in ("max_pool2d", "avg_pool2d", "_max_pool2d"):
        given = _given(("input", "kernel_size", "stride"), args, kwargs)
        kernel = _pair(given["kernel_size"])
        return field.through(kernel, _pair(given.get("stride") or kernel))
    if name == "adaptive_avg_pool2d":
        return _pooled(field, source, result)
    if name in ("scaled_dot_product_attention", "multi_head_attention_forward", "matmul", "bmm"):
        return None
    return _kept(field, source, result)


def _pooled(field: Field, source: Tensor, result: Tensor) -> Field:
    (before_h, before_w), (after_h, after_w) = source.shape[-2:], result.shape[-2:]
    kernel = (-(-before_h // after_h), -(-before_w // after_w))
    # One window over all of the map has no neighbour, so its step is left as it was.
    stride = (1, 1) if (after_h, after_w) == (1, 1) else (max(1, before_h // after_h), max(1, before_w // after_w))
    return field.through(kernel, stride)


def _kept(field: Field, source: Tensor, result: Tensor) -> Field | None:
    """Element by element the field stays; a flattened or averaged map depends on all of the map."""
    if source.dim() < 4:
        return field if result.dim() < 4 else None
    if result.dim() >= 4:
        same_map = sorted(source.shape[-3:])[-2:] == sorted(result.shape[-3:])[-2:]
        return field if same_map or source.shape[-2:] == result.shape[-2:] else _slid(field, source, result)
    if result.dim() <= 2:
        return field.through((source.shape[-2], source.shape[-1]), (1, 1))
    return None


def _slid(field: Field, source: Tensor, result: Tensor) -> Field | None:
    """Padding and cropping change a map's size by a little and no window; any other reshaping ends the trace."""
    if source.dim() != result.dim() or source.shape[:-2] != result.shape[:-2]:
        mean_kept = result.shape[-2:] == (1, 1) and source.shape[:-2] == result.shape[:-2]
        return field.through((source.shape[-2], source.shape[-1]), (1, 1)) if mean_kept else None
    if result.shape[-2:] == (1, 1):
        return field.through((source.shape[-2], source.shape[-1]), (1, 1))
    return field


def _given(names: Sequence[str], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _pair(value: int | Sequence[int] | torch.Size) -> Pair:
    if isinstance(value, int):
        return value, value
    return (value[0], value[-1]) if len(value) else (1, 1)
