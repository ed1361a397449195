"""Images: those that are made to keep a decoder busy, and every format damaged."""

from collections.abc import Iterator
from functools import cache, partial

from support.attacks.attack import Attack, file, mutations
from support.colours import picture
from support.hostile import ATTACKS, red

FAMILY = "image"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")


@cache
def valid(form: str) -> bytes:
    return red(form) if form == "AVIF" else picture("green", form=form, noise=3)


def attacks(scale: int) -> Iterator[Attack]:
    for name, content in ATTACKS.items():
        yield file(FAMILY, name, "image", content)
    yield from mutations(FAMILY, "image", {form: partial(valid, form) for form in FORMATS}, 12 * scale)
