"""The photographs that are sent: small ones as cameras of 2010 made them, and the same with 12 million pixels.

Knows no model and no service.
"""

import io
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

SMALL = (500, 375)
LARGE_PIXELS = 4000 * 3000
LARGE_COUNT = 10
LARGE_QUALITY = 85
# About what ImageNet's files have.
SMALL_QUALITY = 95
CROPS_PER_PHOTOGRAPH = 6


@dataclass(frozen=True)
class Photographs:
    """A set of JPEG files and where they come from."""

    name: str
    origin: str
    paths: tuple[Path, ...]

    def read(self) -> list[bytes]:
        return [path.read_bytes() for path in self.paths]

    def describe(self) -> dict[str, Any]:
        """Count, middle width and height in pixels, mean size in bytes."""
        sizes = []
        for path in self.paths:
            with Image.open(path) as image:
                sizes.append(image.size)
        return {
            "name": self.name,
            "origin": self.origin,
            "count": len(self.paths),
            "width": int(statistics.median(width for width, _ in sizes)),
            "height": int(statistics.median(height for _, height in sizes)),
            "mean_bytes": int(statistics.mean(path.stat().st_size for path in self.paths)),
        }


def small_photographs(folder: Path, samples: Path | None) -> Photographs:
    """The sample photographs where that folder exists, else crops of scikit-learn's two, written to `folder`."""
    if samples is not None and samples.is_dir():
        paths = tuple(sorted(path for path in samples.iterdir() if path.suffix.lower() in (".jpg", ".jpeg")))
        if paths:
            return Photographs("small", f"{len(paths)} photographs of ImageNet", paths)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, crop in enumerate(_crops()):
        path = folder / f"small-{number:02d}.jpg"
        crop.save(path, "JPEG", quality=SMALL_QUALITY)
        written.append(path)
    return Photographs("small", "crops of scikit-learn's two photographs", tuple(written))


def large_photographs(folder: Path, small: Photographs, count: int = LARGE_COUNT) -> Photographs:
    """Some of the small ones, enlarged to 12 million pixels in their own aspect and encoded again."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, path in enumerate(_spread(small.paths, count)):
        enlarged = folder / f"large-{number:02d}.jpg"
        enlarged.write_bytes(_enlarge(path.read_bytes()))
        written.append(enlarged)
    return Photographs("large", f"{small.origin}, enlarged, encoded at quality {LARGE_QUALITY}", tuple(written))


def _enlarge(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        scale = (LARGE_PIXELS / (image.width * image.height)) ** 0.5
        size = (round(image.width * scale), round(image.height * scale))
        enlarged = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    enlarged.save(buffer, "JPEG", quality=LARGE_QUALITY)
    return buffer.getvalue()


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """`count` of the paths, evenly spread; all of them when there are fewer."""
    count = min(count, len(paths))
    return [paths[number * len(paths) // count] for number in range(count)]


def _crops() -> Iterator[Image.Image]:
    from sklearn.datasets import load_sample_images

    width, height = SMALL
    for pixels in load_sample_images().images:
        photograph = Image.fromarray(pixels)
        for step in range(CROPS_PER_PHOTOGRAPH):
            fraction = step / (CROPS_PER_PHOTOGRAPH - 1)
            left = round((photograph.width - width) * fraction)
            top = round((photograph.height - height) * (1 - fraction))
            yield photograph.crop((left, top, left + width, top + height))
