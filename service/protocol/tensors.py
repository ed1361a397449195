"""Tensors in and out: images from a tensor's bytes while they arrive, and what the network answered as tensors."""

import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from models.spec import PROBABILITIES
from service.errors import Problem
from service.intake import IncomingImage, Reception, SentImage
from service.lane import Answer
from service.protocol.model import BYTES, FP32
from service.protocol.request import InferRequest, WantedOutput

LENGTH_BYTES = 4  # before each element of a BYTES tensor, little-endian


class ImageReader(Protocol):
    """Makes images of a tensor's bytes."""

    async def feed(self, data: bytes) -> None:
        """The next of the tensor's bytes. Raises Problem 400 where they are too many, 429; BrokerUnavailable."""
        ...

    async def finish(self) -> list[SentImage]:
        """Raises Problem 400 where some are missing, and BrokerUnavailable."""
        ...


class Elements:
    """A BYTES tensor of `count` encoded images, each behind its length."""

    def __init__(self, reception: Reception, count: int) -> None:
        self._reception, self._count = reception, count
        self._images: list[SentImage] = []
        self._length = b""
        self._image: IncomingImage | None = None
        self._missing = 0

    async def add(self, element: bytes) -> None:
        """A whole element, without its length."""
        image = self._reception.image()
        await image.write(element)
        self._images.append(await image.finish())

    async def feed(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if self._image is None:
                if len(self._images) == self._count:
                    raise malformed(f"the tensor has more than the {self._count} elements of its shape")
                taken = LENGTH_BYTES - len(self._length)
                self._length += data[at : at + taken]
                at += taken
                if len(self._length) < LENGTH_BYTES:
                    return
                self._missing, self._length = int.from_bytes(self._length, "little"), b""
                self._image = self._reception.image()
            else:
                piece = data[at : at + self._missing]
                at += len(piece)
                self._missing -= len(piece)
                await self._image.write(piece)
            if not self._missing:
                self._images.append(await self._image.finish())
                self._image = None

    async def finish(self) -> list[SentImage]:
        if self._image or self._length:
            raise malformed(f"the last element of the tensor ends {self._missing} bytes too early")
        if len(self._images) != self._count:
            raise malformed(f"the tensor has {len(self._images)} elements; its shape says {self._count}")
        return self._images


class Pixels:
    """A UINT8 tensor of `count` prepared images of `size` bytes each."""

    def __init__(self, reception: Reception, count: int, size: int) -> None:
        self._reception, self._count, self._size = reception, count, size
        self._images: list[SentImage] = []
        self._image: IncomingImage | None = None

    async def feed(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            if len(self._images) == self._count:
                raise malformed(f"the tensor has more than the {self._count * self._size} bytes of its shape")
            if self._image is None:
                self._image = self._reception.image(prepared=True)
            piece = data[at : at + self._size - self._image.size]
            at += len(piece)
            await self._image.write(piece)
            if self._image.size == self._size:
                self._images.append(await self._image.finish())
                self._image = None

    async def finish(self) -> list[SentImage]:
        if self._image or len(self._images) != self._count:
            sent = len(self._images) * self._size + (self._image.size if self._image else 0)
            raise malformed(f"the tensor has {sent} bytes; its shape says {self._count * self._size}")
        return self._images


@dataclass(frozen=True)
class OutputTensor:
    """`content` as the protocol's raw form has it; of BYTES each of `texts` behind its length."""

    name: str
    datatype: str
    shape: list[int]
    content: bytes
    texts: tuple[str, ...] = ()

    def values(self) -> list[Any]:
        """As JSON has them, flat."""
        return list(self.texts) if self.datatype == BYTES else memoryview(self.content).cast("f").tolist()


def output_tensors(request: InferRequest, answers: Sequence[Answer]) -> list[OutputTensor]:
    """What was wanted, over all images in their order. Raises Problem 503 where the worker sent something else."""
    return [
        _classes(wanted, answers) if wanted.classes else _values(wanted.name, answers)
        for wanted in request.outputs
    ]


def _values(name: str, answers: Sequence[Answer]) -> OutputTensor:
    rows = [_row(answer, name) for answer in answers]
    content = b"".join(rows)
    return OutputTensor(name, FP32, [len(rows), len(rows[0]) // 4], content)


def _classes(wanted: WantedOutput, answers: Sequence[Answer]) -> OutputTensor:
    texts = tuple(text for answer in answers for text in _named(wanted, answer))
    content = b"".join(_element(text.encode()) for text in texts)
    return OutputTensor(wanted.name, BYTES, [len(answers), len(texts) // len(answers)], content, texts)


def _named(wanted: WantedOutput, answer: Answer) -> Iterator[str]:
    """`value:index:label` of the best classes. Probabilities and logits have the same order."""
    classes = answer.outcome.classes[: wanted.classes]
    if wanted.name == PROBABILITIES:
        return (f"{found.probability:f}:{found.index}:{found.label}" for found in classes)
    values = memoryview(_row(answer, wanted.name)).cast("f")
    return (f"{values[found.index]:f}:{found.index}:{found.label}" for found in classes)


def _row(answer: Answer, name: str) -> bytes:
    encoded = (answer.outcome.outputs or {}).get(name)
    if encoded is None:
        detail = f"The worker is of an earlier release, which does not send {name}; update it, or ask /v1."
        raise Problem(503, "output_unavailable", detail, {"Retry-After": "5"})
    return binascii.a2b_base64(encoded)


def _element(data: bytes) -> bytes:
    return len(data).to_bytes(LENGTH_BYTES, "little") + data


def malformed(why: str) -> Problem:
    """What came is not what the protocol says of a body."""
    return Problem(400, "malformed_body", f"The body: {why}.")
