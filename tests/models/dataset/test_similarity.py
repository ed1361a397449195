import io
import time

import numpy as np
import pytest
from PIL import Image

from models.dataset.picture import PictureInfo, look
from models.dataset.similarity import Match, near_duplicates


@pytest.fixture(scope="module")
def scenes(draw):
    return [Image.open(io.BytesIO(draw(seed, size=(200, 160), kind="PNG"))) for seed in range(20)]


def seen(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return look(buffer.getvalue())[0]


def test_copies_are_found_and_nothing_else(scenes):
    first = [seen(scene) for scene in scenes[:10]]
    copies = [
        seen(scenes[3].resize((90, 70)), "JPEG", quality=50),
        seen(scenes[7].crop((1, 1, 199, 159)), "WEBP"),
        seen(Image.eval(scenes[8], lambda value: value * 9 // 10)),
    ]
    second = [seen(scene) for scene in scenes[10:]] + copies
    assert {(m.first, m.second) for m in near_duplicates(first, second)} == {(3, 10), (7, 11), (8, 12)}


def test_the_closest_is_named(scenes):
    near, same = seen(scenes[0].crop((3, 3, 197, 157))), seen(scenes[0])
    (match,) = near_duplicates([same], [near, same])
    assert match == Match(0, 1, 0)


def test_an_equal_hash_of_another_scene_is_no_duplicate(scenes):
    one, other = seen(scenes[0]), seen(scenes[1])
    impostor = PictureInfo(other.format, other.mode, other.width, other.height, 1, one.phash, other.fingerprint)
    assert list(near_duplicates([one], [impostor])) == []


def test_flat_pictures_are_not_all_the_same():
    flat = [seen(Image.new("RGB", (40, 40), colour)) for colour in ("red", "white", "black")]
    assert list(near_duplicates(flat, flat)) == []


def test_nothing_to_compare_gives_nothing(scenes):
    assert list(near_duplicates([], [seen(scenes[0])])) == list(near_duplicates([seen(scenes[0])], [])) == []


@pytest.mark.slow
def test_a_hundred_thousand_pictures_are_compared_in_seconds():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 100_000, dtype=np.uint64)
    grey = rng.integers(0, 256, (100_000, 256), dtype=np.uint8)
    pictures = [
        PictureInfo("JPEG", "RGB", 9, 9, 1, f"{int(h):016x}", g.tobytes())
        for h, g in zip(hashes, grey, strict=True)
    ]
    val, train = pictures[:10_000], pictures[10_000:]
    train[777] = val[5]
    start = time.process_time()
    assert list(near_duplicates(val, train)) == [Match(5, 777, 0)]
    assert time.process_time() - start < 10
