import numpy as np

from models.photographs import photographs
from models.spec import Preprocessing


def test_there_are_enough_different_real_images_for_the_gate() -> None:
    images = photographs(Preprocessing())
    assert images.dtype == np.uint8
    assert images.shape == (68, 224, 224, 3)
    assert len({image.tobytes() for image in images}) == 68
    assert images.std(axis=(1, 2, 3)).min() > 5  # one is mostly sky


def test_fewer_are_spread_over_both_photographs_and_all_scales() -> None:
    preprocessing = Preprocessing(height=8, width=8, resize=8)
    everything, some = photographs(preprocessing), photographs(preprocessing, count=5)
    chosen = [int((everything == image).all(axis=(1, 2, 3)).argmax()) for image in some]
    assert chosen == [0, 17, 34, 50, 67]


def test_they_are_the_same_every_time() -> None:
    preprocessing = Preprocessing(height=8, width=8, resize=8)
    assert (photographs(preprocessing) == photographs(preprocessing)).all()
