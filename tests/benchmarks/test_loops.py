"""The loops do the work that they claim to do, in processes of their own."""

from pathlib import Path

import numpy as np
import pytest
from support.colours import make_colour_artifact, picture
from support.plain import make_plain_artifact

from benchmarks.artifacts import FOVEA
from benchmarks.loop import ChildEnded, Loops
from benchmarks.photographs import small_photographs
from benchmarks.plain import PlainClassifier, plain_pixels
from models.preprocess import prepare
from models.spec import Preprocessing


def test_the_plain_pixels_are_foveas_pixels_normalised(tmp_path: Path) -> None:
    preprocessing = Preprocessing()
    data = small_photographs(tmp_path, samples=None).read()[0]

    plain = plain_pixels(data, preprocessing)

    pixels = prepare(data, preprocessing).astype(np.float32) / 255
    mean, std = np.array(preprocessing.mean, np.float32), np.array(preprocessing.std, np.float32)
    expected = ((pixels - mean) / std).transpose(2, 0, 1)[None]
    assert plain.shape == (1, 3, 224, 224)
    assert plain.dtype == np.float32
    assert plain.flags.c_contiguous
    # The plain way rounds the crop to whole pixels, so single pixels at edges may differ.
    assert float(np.abs(plain - expected).mean()) < 0.05


def test_a_batch_is_classified_as_each_of_its_images(tmp_path: Path) -> None:
    make_plain_artifact(tmp_path)
    images = [picture(colour) for colour in ("blue", "red")]
    classifier = PlainClassifier(tmp_path)

    both = classifier.classify(images)

    assert [classes[0]["label"] for classes in both] == ["blue", "red"]
    assert both == [classifier.classify([data])[0] for data in images]
    assert sum(found["probability"] for found in both[0]) == pytest.approx(1)


def test_every_core_has_a_process_that_measures_itself(tmp_path: Path) -> None:
    make_colour_artifact(tmp_path / FOVEA)
    paths = [tmp_path / f"{colour}.png" for colour in ("red", "green", "blue")]
    for path in paths:
        path.write_bytes(picture(path.stem))

    with Loops("fovea-loop", tmp_path, paths, cores=2) as loops:
        figures = [loops.measure(0.4) for _ in range(2)]

    for figure in figures:
        assert figure.step == "fovea-loop"
        assert figure.images > 20
        assert 0.3 < figure.seconds < 2.0
        assert figure.inference_ms is not None
        assert figure.decode_ms is not None
        assert figure.inference_ms + figure.decode_ms <= figure.cpu_ms * 1.05
        assert figure.pss < 2 * figure.memory_of["each process"]
        assert 0 < figure.p50_ms <= figure.p99_ms


def test_a_process_that_cannot_load_its_model_is_reported(tmp_path: Path) -> None:
    photograph = tmp_path / "red.png"
    photograph.write_bytes(picture("red"))

    with pytest.raises(ChildEnded), Loops("fovea-loop", tmp_path / "nothing", [photograph], cores=1):
        pass
