import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from models.errors import InvalidPreprocessing
from models.normalise import Normalise
from models.spec import Preprocessing


def test_pixels_become_the_floats_of_the_formula(images: NDArray[np.uint8], preprocessing: Preprocessing) -> None:
    expected = (images / 255 - preprocessing.mean) / preprocessing.std
    floats = Normalise(preprocessing)(torch.from_numpy(images))
    assert floats.dtype == torch.float32
    assert floats.is_contiguous()
    np.testing.assert_allclose(floats.permute(0, 2, 3, 1).numpy(), expected, atol=2e-6)


def test_one_channel_is_pillows_luminance(images: NDArray[np.uint8]) -> None:
    preprocessing = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images[:8]])
    floats = Normalise(preprocessing, channels=1)(torch.from_numpy(images[:8]))
    assert floats.shape == (8, 1, *images.shape[1:3])
    # Pillow rounds to whole levels, one of which is 1 / 255 / 0.25.
    assert np.abs(floats[:, 0].numpy() - (grey / 255 - 0.5) / 0.25).max() <= 1 / 255 / 0.25


def test_it_leaves_no_trace_in_a_state_dict(preprocessing: Preprocessing) -> None:
    assert not Normalise(preprocessing).state_dict()
    assert not list(Normalise(preprocessing).parameters())


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_channels_are_refused(preprocessing: Preprocessing, channels: int) -> None:
    with pytest.raises(InvalidPreprocessing, match=f"not {channels}"):
        Normalise(preprocessing, channels)
