"""Files made to keep a decoder busy cost it moments, and the largest pictures that are allowed bounded memory."""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from PIL import Image
from support.hostile import ATTACKS, encode, large_pictures

from models.dataset.picture import look
from models.errors import ImageError
from models.preprocess import prepare
from models.spec import Preprocessing

SMALL = Preprocessing(height=24, width=24, resize=32)
MOST_S = 1.5
# Of a picture of 64 million pixels: four bytes for each as it is decoded and as many as it is laid on white.
MOST_MB = 700

DECODE = """
import re, sys
from pathlib import Path
from models.preprocess import prepare
from models.spec import Preprocessing

data = sys.stdin.buffer.read()
prepare(data, Preprocessing(height=24, width=24, resize=32))
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_takes_moments(attack: str) -> None:
    data = ATTACKS[attack]()
    works: tuple[Callable[[], object], ...] = (lambda: prepare(data, SMALL), lambda: look(data))
    for work in works:
        started = time.process_time()
        with suppress(ImageError):
            work()
        assert time.process_time() - started < MOST_S


def test_a_damaged_fax_does_not_fill_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    speckled = Image.effect_noise((60, 50), 90).convert("1")
    data = bytearray(encode(speckled, "TIFF", compression="group4"))
    data[100:130] = b"\xff\x13" * 15
    with suppress(ImageError):
        prepare(bytes(data), SMALL)
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
@pytest.mark.slow
def test_the_largest_pictures_take_bounded_memory() -> None:
    """Each is decoded by a process of its own, which has never had another in its memory."""
    for name, data in large_pictures():
        assert len(data) < 3_000_000, name
        done = subprocess.run([sys.executable, "-c", DECODE], input=data, capture_output=True, check=True)
        assert int(done.stdout) < MOST_MB, name
