"""The part of an image that one value of a feature map is computed from, as a grid of windows."""

from dataclasses import dataclass, replace
from typing import NamedTuple

Pair = tuple[int, int]


class Box(NamedTuple):
    """Pixels of the prepared image, the last row and column excluded; where it is padded, outside the image."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class Windows:
    """Of the value at row r and column c the window begins at `start + (r, c) * jump`; height and width in pixels.

    `size` and `jump` are those of `models.zoo.receptive_field`, after Dumoulin and Visin, "A guide to convolution
    arithmetic for deep learning" (2016). `start` is negative where the image was padded. `axes` are the tensor's
    that run along height and width. `gated`: the values also depend on all of the image, by a gate or a norm that
    is computed from all of a map.
    """

    size: Pair = (1, 1)
    jump: Pair = (1, 1)
    start: Pair = (0, 0)
    axes: Pair = (2, 3)
    gated: bool = False

    def through(self, way: int, kernel: int, stride: int, dilation: int, padding: int) -> "Windows":
        """Those of a convolution or a pool along height (`way` 0) or width (1), padded before the first value."""
        size, jump, start = (list(pair) for pair in (self.size, self.jump, self.start))
        size[way] += (kernel - 1) * dilation * jump[way]
        start[way] -= padding * jump[way]
        jump[way] *= stride
        return replace(self, size=(size[0], size[1]), jump=(jump[0], jump[1]), start=(start[0], start[1]))

    def joined(self, other: "Windows") -> "Windows | None":
        """Of what is computed from both, value by value; None where they do not run side by side."""
        if (self.jump, self.axes) != (other.jump, other.axes):
            return None
        ours, theirs = self.at(0, 0), other.at(0, 0)
        top, left = min(ours.top, theirs.top), min(ours.left, theirs.left)
        size = max(ours.bottom, theirs.bottom) - top, max(ours.right, theirs.right) - left
        return replace(self, size=size, start=(top, left), gated=self.gated or other.gated)

    def at(self, row: int, column: int) -> Box:
        top, left = self.start[0] + row * self.jump[0], self.start[1] + column * self.jump[1]
        return Box(top, left, top + self.size[0], left + self.size[1])


def shown_part(box: Box, height: int, width: int) -> Box:
    """Of a window larger than half of the image the middle, as large as that half and moved into the image.

    Values near the middle of a window count most: its effective field is a fraction of it (Luo et al. 2016,
    "Understanding the effective receptive field in deep convolutional networks").
    """
    top, bottom = _shown(box.top, box.bottom, height)
    left, right = _shown(box.left, box.right, width)
    return Box(top, left, bottom, right)


def _shown(begin: int, end: int, length: int) -> Pair:
    most = max(1, length // 2)
    if end - begin <= most:
        return begin, end
    first = min(max((begin + end - most) // 2, 0), length - most)
    return first, first + most
