"""Files of weights that lie about their shapes, hold code or nothing, or were damaged."""

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import safetensors.torch
import torch
from support.attacks.attack import Attack, file, mutations

from models.zoo.registry import build

FAMILY = "weights"
DEEP = 100_000


class Command:
    def __reduce__(self) -> Any:
        return __import__("os").system, ("touch /tmp/fovea-was-here",)


@cache
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(build("lenet5", 4, 1).state_dict())


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def with_tensor(**tensors: torch.Tensor) -> bytes:
    return saved({**state(), **{name.replace("__", "."): value for name, value in tensors.items()}})


def safe(**tensors: torch.Tensor) -> bytes:
    whole = {**state(), **{name.replace("__", "."): value for name, value in tensors.items()}}
    return safetensors.torch.save({name: value.contiguous() for name, value in whole.items()})


def safe_header(header: Any, body: bytes = bytes(1_000), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(shape: Any, offsets: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"head.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def hdf5(path: Path, shape: tuple[int, ...], name: str = "dense/dense/kernel:0") -> Path:
    """A dataset that was never written takes no room in its file."""
    with h5py.File(path, "w") as made:
        made.create_dataset(name, shape=shape, dtype="f4", chunks=tuple(min(side, 64) for side in shape))
    return path


def inflated(size: int) -> bytes:
    """A file of torch's, whose values are compressed as torch never does."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(state()))) as source, zipfile.ZipFile(buffer, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            big = entry.filename.endswith("data/0")
            target.writestr(entry.filename, bytes(size) if big else content, zipfile.ZIP_DEFLATED if big else 0)
    return buffer.getvalue()


PICKLED: Mapping[str, Callable[[], bytes]] = {
    "good": lambda: saved(state()),
    "good, as torch wrote them before": lambda: saved(state(), _use_new_zipfile_serialization=False),
    "nothing": lambda: b"",
    "a command": lambda: saved({"head.weight": Command()}),
    "a bare command": lambda: pickle.dumps(Command()),
    "a network": lambda: saved({"model": build("lenet5", 4, 1).state_dict(), "command": Command()}),
    "a list": lambda: saved([1, 2]),
    "a number": lambda: saved(5),
    "no tensors": lambda: saved({}),
    "texts": lambda: saved({"head.weight": "x"}),
    "numbers as names": lambda: saved({1: torch.zeros(1)}),
    "deep": lambda: b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "many names": lambda: saved({f"x{n}": torch.zeros(1) for n in range(3_000)}),
    "a long name": lambda: saved({"x" * 1_000_000: torch.zeros(1)}),
    "inflated": lambda: inflated(400_000_000),
    "3,000,000 classes": lambda: with_tensor(head__weight=torch.zeros(1).expand(3_000_000, 84)),
    "classes without end": lambda: with_tensor(head__weight=torch.zeros(1).expand(2**40, 84)),
    "one class of all values": lambda: with_tensor(head__weight=torch.zeros(1).expand(1, 2**40)),
    "no class": lambda: with_tensor(head__weight=torch.zeros(0, 84)),
    "a head without sides": lambda: with_tensor(head__weight=torch.tensor(1.0)),
    "a head of five sides": lambda: with_tensor(head__weight=torch.zeros(4, 84, 1, 1, 1)),
    "a billion channels": lambda: saved(
        {
            name: torch.zeros(1).expand(value.shape[0], 10**9, *value.shape[2:]) if value.dim() == 4 else value
            for name, value in state().items()
        }
    ),
    "NaN": lambda: with_tensor(head__weight=torch.full((4, 84), float("nan"))),
    "infinite": lambda: with_tensor(head__bias=torch.full((4,), float("inf"))),
    "sparse": lambda: with_tensor(head__weight=torch.zeros(4, 84).to_sparse()),
    "complex": lambda: with_tensor(head__weight=torch.zeros(4, 84, dtype=torch.complex64)),
    "without values": lambda: with_tensor(head__weight=torch.empty(4, 84, device="meta")),
    "whole numbers": lambda: with_tensor(head__weight=torch.zeros(4, 84, dtype=torch.int64)),
    "of 8 bits": lambda: with_tensor(head__weight=torch.zeros(4, 84).to(torch.float8_e4m3fn)),
}

SAFE: Mapping[str, Callable[[], bytes]] = {
    "good": safe,
    "nothing": lambda: b"",
    "NaN": lambda: safe(head__weight=torch.full((4, 84), float("nan"))),
    "of 8 bits": lambda: safe(head__weight=torch.zeros(4, 84).to(torch.float8_e4m3fn)),
    "of 16 bits": lambda: safe(head__weight=torch.zeros(4, 84, dtype=torch.bfloat16)),
    **{
        f"a header of {length} bytes": partial(safe_header, {}, bytes(10), length)
        for length in (0, 2, 10**6, 2**32, 2**63, 2**64 - 1)
    },
    **{
        f"a header {text[:20]!r}": partial(safe_header, text)
        for text in (
            b"[]",
            b"5",
            b"null",
            b"{",
            b"\xff",
            b'{"a":',
            b"[" * 200_000,
            b'{"__metadata__": 5}',
            b" " * 10**6,
        )
    },
    **{
        f"{dtype} {shape} at {offsets}": partial(safe_header, tensor(shape, offsets, dtype))
        for dtype, shape, offsets in (
            ("F32", [4, 84], [0, 4]),
            ("F32", [2**62, 4], [0, 0]),
            ("F32", [2**32, 2**32], [0, 0]),
            ("F32", [-1], [0, 4]),
            ("F32", ["4"], [0, 16]),
            ("F32", [4], [16, 0]),
            ("F32", [4], [0, 10**12]),
            ("F32", [4], [-16, 0]),
            ("X9", [4], [0, 16]),
            ("F32", "4", [0, 16]),
            ("F32", [250], [0, 1000]),
            ("F32", [0, 10**18], [0, 0]),
            ("BOOL", [1000], [0, 1000]),
            ("F64", [125], [0, 1000]),
        )
    },
}

HDF5: Mapping[str, tuple[tuple[int, ...], str]] = {
    "no layer of ours": ((3, 4), "dense/dense/kernel:0"),
    "a convolution": ((3, 3, 3, 8), "conv1/conv1/kernel:0"),
    "a convolution of two sides": ((3, 3), "conv1/conv1/kernel:0"),
    "a head of one side": ((3,), "conv_preds/conv_preds/kernel:0"),
    "values without end": ((10**6, 10**6), "conv1/conv1/kernel:0"),
    "a kernel of a billion values": ((10**9,), "conv1/conv1/kernel:0"),
    "a layer of a high number": ((3, 3, 3, 8), f"conv_dw_{'9' * 100}/x/depthwise_kernel:0"),
}


def attacks(scale: int) -> Iterator[Attack]:
    for name, content in PICKLED.items():
        yield file(FAMILY, f"pth, {name}", "weights.pth", content)
    for name, content in SAFE.items():
        yield file(FAMILY, f"safetensors, {name}", "weights.safetensors", content)
    for name, (shape, where) in HDF5.items():
        yield Attack(FAMILY, f"h5, {name}", lambda folder, s=shape, w=where: hdf5(folder / "weights.h5", s, w))  # type: ignore[misc]
    yield from mutations(FAMILY, "weights.pth", {"pth": PICKLED["good"]}, 20 * scale)
    yield from mutations(FAMILY, "weights.safetensors", {"safetensors": SAFE["good"]}, 20 * scale)
