"""Variations: of the right size, as asked, drawn from torch's generator and from nothing else."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.spec import Preprocessing
from models.training.augment import ColourPCA, eval_transform, mixup_cutmix, principal_colours, train_transform
from models.training.recipe import ALEXNET_2012, DEFAULT, Augmentation, read_recipe

VIEW = Preprocessing(height=24, width=24, resize=28)


@pytest.fixture
def canvas() -> Tensor:
    """A smooth picture without symmetry, uint8 [3, 28, 28]."""
    rows, columns = torch.meshgrid(torch.arange(28), torch.arange(28), indexing="ij")
    return torch.stack([rows * 9, columns * 9, (rows + columns) * 4]).to(torch.uint8)


@pytest.mark.parametrize(
    "augmentation",
    [
        DEFAULT.augmentation,
        ALEXNET_2012.augmentation,
        Augmentation(rotation=20, translation=0.1, stretch=0.2, shear=10, erasing=1.0, hue=0.2),
        Augmentation(crop="centre", mirror=False),
    ],
)
def test_every_variation_has_the_networks_size(augmentation: Augmentation, canvas: Tensor) -> None:
    view = train_transform(augmentation, VIEW, principal_colours(canvas[None]))(canvas)
    assert (view.shape, view.dtype) == ((3, 24, 24), torch.uint8)


def test_the_same_seed_gives_the_same_variation(canvas: Tensor) -> None:
    transform = train_transform(ALEXNET_2012.augmentation, VIEW, principal_colours(canvas[None]))
    views = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        views.append(transform(canvas))
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])


def test_nothing_asked_is_nothing_changed(canvas: Tensor) -> None:
    off = {"crop": "centre", "mirror": False, "brightness": 0, "contrast": 0, "saturation": 0}
    transform = train_transform(read_recipe({"augmentation": off}).augmentation, VIEW, None)
    assert torch.equal(transform(canvas), eval_transform(VIEW)(canvas))
    assert torch.equal(eval_transform(VIEW)(canvas), canvas[:, 2:26, 2:26])


def test_mirroring_happens_half_of_the_time(canvas: Tensor) -> None:
    recipe = read_recipe({"augmentation": {"crop": "centre", "brightness": 0, "contrast": 0, "saturation": 0}})
    transform = train_transform(recipe.augmentation, VIEW, None)
    straight = eval_transform(VIEW)(canvas)
    mirrored = [not torch.equal(transform(canvas), straight) for _ in range(200)]
    assert 70 <= sum(mirrored) <= 130


def test_principal_colours_are_those_of_the_covariance() -> None:
    rng = np.random.default_rng(0)
    shade = rng.normal(0, 40, (4, 1, 16, 16))
    images = np.clip(128 + shade * np.array([1.0, 0.5, 0.1]).reshape(1, 3, 1, 1), 0, 255).astype(np.uint8)
    axes = principal_colours(torch.from_numpy(images)).numpy()
    strongest = axes[:, np.argmax(np.linalg.norm(axes, axis=0))]
    direction = np.abs(strongest / np.linalg.norm(strongest))
    expected = np.array([1.0, 0.5, 0.1]) / np.linalg.norm([1.0, 0.5, 0.1])
    assert np.allclose(direction, expected, atol=0.02)
    covariance = np.cov(images.transpose(1, 0, 2, 3).reshape(3, -1) / 255)
    assert np.linalg.norm(strongest) == pytest.approx(np.linalg.eigvalsh(covariance)[-1], rel=1e-4)


def test_colour_shifts_are_the_same_for_every_pixel() -> None:
    grey = torch.full((3, 8, 8), 128, dtype=torch.uint8)
    torch.manual_seed(0)
    shifted = ColourPCA(torch.diag(torch.tensor([0.3, 0.2, 0.1])), 0.5)(grey)
    assert all(len(channel.unique()) == 1 for channel in shifted)
    assert not torch.equal(shifted, grey)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixed_labels_add_up_to_one(name: str) -> None:
    mix = mixup_cutmix(read_recipe({"augmentation": {name: 1.0}}).augmentation, 4)
    assert mix is not None
    images, labels = mix(torch.rand(8, 3, 16, 16), torch.arange(8) % 4)
    assert images.shape == (8, 3, 16, 16)
    assert labels.shape == (8, 4)
    assert torch.allclose(labels.sum(dim=1), torch.ones(8))


def test_mixing_is_off_unless_asked_for() -> None:
    assert mixup_cutmix(DEFAULT.augmentation, 4) is None
