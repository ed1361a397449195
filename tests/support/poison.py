"""Images that end the process which decodes them, by a decoder that does so for pictures of certain sizes."""

import signal
from pathlib import Path

import numpy as np
from PIL import Image
from support.hostile import encode

WIDTH = 61
DEADLY_HEIGHTS = {signal.SIGSEGV: 43, signal.SIGKILL: 47}

# Python imports a module of this name before anything else.
CUSTOMIZATION = f"""
import signal
from PIL import PngImagePlugin

DEADLY = {{({WIDTH}, height): number for number, height in {[(int(n), h) for n, h in DEADLY_HEIGHTS.items()]}}}
healthy = PngImagePlugin.PngImageFile.load_prepare

def load_prepare(image):
    if image.size in DEADLY:
        signal.raise_signal(DEADLY[image.size])
    healthy(image)

PngImagePlugin.PngImageFile.load_prepare = load_prepare
"""


def poison(how: signal.Signals = signal.SIGSEGV, number: int = 0) -> bytes:
    """A sound PNG picture; each number is another file."""
    pixels = np.full((DEADLY_HEIGHTS[how], WIDTH, 3), (220, 40, 40), np.uint8)
    pixels[0, 0] = number
    return encode(Image.fromarray(pixels))


def deadly_decoder(folder: Path) -> dict[str, str]:
    """The environment of processes whose decoder is ended by such pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(CUSTOMIZATION)
    return {"PYTHONPATH": str(folder)}
