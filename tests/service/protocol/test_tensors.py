"""Images out of a tensor's bytes, however those are cut into pieces."""

import asyncio
import struct
from collections.abc import Sequence
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from service.errors import Problem
from service.intake import ImageLimits, ImageStore, Intake
from service.protocol.tensors import Elements, ImageReader, Pixels

PNG = b"\x89PNG\r\n\x1a\n"


def read(content: bytes, cuts: Sequence[int], count: int, size: int = 0) -> list[bytes] | Problem:
    """The images that a tensor of `count` has, or why it has none; of pixels where they have a `size`."""

    async def reading() -> list[bytes]:
        # Small images need no store.
        intake = Intake(cast(ImageStore, None), ImageLimits(64, 2**20), 2**30)
        async with intake.reception(None) as reception:
            reader: ImageReader = Pixels(reception, count, size) if size else Elements(reception, count)
            at = 0
            for cut in (*sorted(cuts), len(content)):
                await reader.feed(content[at:cut])
                at = max(at, cut)
            images = await reader.finish()
        return [bytes(image.content) for image in images if isinstance(image.content, bytes)]

    try:
        return asyncio.run(reading())
    except Problem as problem:
        return problem


images = st.lists(st.binary(max_size=40).map(PNG.__add__), min_size=1, max_size=5)
cuts = st.lists(st.integers(0, 250), max_size=6)


@given(images, cuts)
def test_elements_are_the_same_whatever_the_pieces(sent: list[bytes], at: list[int]) -> None:
    content = b"".join(struct.pack("<I", len(image)) + image for image in sent)
    assert read(content, [cut for cut in at if cut <= len(content)], len(sent)) == sent


@given(st.integers(1, 9), st.integers(1, 4), cuts)
def test_pixels_are_the_same_whatever_the_pieces(size: int, count: int, at: list[int]) -> None:
    content = bytes(range(size * count))
    found = read(content, [cut for cut in at if cut <= len(content)], count, size)
    assert found == [content[place * size : (place + 1) * size] for place in range(count)]


@given(st.binary(max_size=60), st.integers(1, 3), st.sampled_from([0, 7]))
def test_any_other_bytes_are_refused_or_are_so_many_images(content: bytes, count: int, size: int) -> None:
    found = read(content, (), count, size)
    assert isinstance(found, Problem) or len(found) <= count
    if isinstance(found, Problem):
        assert (found.status, found.code) == (400, "malformed_body")
