"""Cached features: what the network would compute, computed once, and never another network's."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from support.teaching import CPU
from torch import nn

from models.dataset.folder import DatasetFolder
from models.normalise import Normalise
from models.spec import Preprocessing
from models.training.augment import eval_transform, train_transform
from models.training.backbone import TorchBackbone
from models.training.features import FeatureCache, FeatureExtractor, View
from models.training.head import TrainableHead, linear_head, rows_to_keep
from models.training.pixels import Pixels, canvas_of, decode
from models.training.recipe import Augmentation
from models.training.split import ImageList, split_dataset
from models.zoo.layout import split_network
from models.zoo.registry import build

VIEW = Preprocessing(height=32, width=32, resize=36)
TURNED = Augmentation(rotation=20.0)


class Counting(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += len(x)
        features: torch.Tensor = self.inner(x)
        return features


@pytest.fixture
def images(colours: DatasetFolder) -> ImageList:
    return split_dataset(colours, fraction=0.25, seed=0).train


@pytest.fixture
def canvases(images: ImageList, tmp_path: Path) -> Pixels:
    return decode(images, canvas_of(VIEW), tmp_path / "pixels")


@pytest.fixture
def network() -> nn.Module:
    return build("lenet5", num_classes=3).eval()


def views(count: int, seed: int = 0) -> list[View]:
    vary = train_transform(TURNED, VIEW, None)
    return [View(0, eval_transform(VIEW)), *(View(i + 1, vary, TURNED, seed) for i in range(count))]


def extractor(network: nn.Module, folder: Path) -> tuple[FeatureExtractor, Counting]:
    counting = Counting(split_network(network).backbone)
    return FeatureExtractor(TorchBackbone(counting, VIEW, CPU), FeatureCache(folder)), counting


def test_head_on_features_is_what_the_network_answers(
    network: nn.Module, images: ImageList, canvases: Pixels, tmp_path: Path
) -> None:
    features = extractor(network, tmp_path)[0].extract(images, canvases, views(0))[0]
    middle = torch.from_numpy(canvases.array[:, 2:34, 2:34].copy())
    with torch.no_grad():
        expected = network(Normalise(VIEW)(middle))
        assert torch.allclose(split_network(network).head(features), expected, atol=1e-5)


def test_what_was_computed_is_not_computed_again(
    network: nn.Module, images: ImageList, canvases: Pixels, tmp_path: Path
) -> None:
    first, counting = extractor(network, tmp_path)
    found = first.extract(images, canvases, views(2))
    assert counting.seen == 3 * len(images)
    again, recounting = extractor(network, tmp_path)
    assert torch.equal(again.extract(images, canvases, views(2)), found)
    assert recounting.seen == 0
    again.extract(images, canvases, views(3))
    assert recounting.seen == len(images)


def test_other_weights_images_seeds_and_preprocessing_have_features_of_their_own(
    network: nn.Module, images: ImageList, canvases: Pixels, tmp_path: Path
) -> None:
    extractor(network, tmp_path)[0].extract(images, canvases, views(1))
    kept = len(list(tmp_path.glob("*.safetensors")))
    assert kept == 2
    extractor(network, tmp_path)[0].extract(images, canvases, views(1, seed=1))
    other = build("lenet5", num_classes=3)
    extractor(other, tmp_path)[0].extract(images, canvases, views(0))
    fewer = ImageList(images.paths[:4], images.targets[:4], images.names[:4], images.sha256[:4])
    extractor(network, tmp_path)[0].extract(fewer, canvases, views(0))
    darker = Preprocessing(height=32, width=32, resize=36, mean=(0.9, 0.9, 0.9))
    FeatureExtractor(TorchBackbone(split_network(network).backbone, darker, CPU), FeatureCache(tmp_path)).extract(
        images, canvases, views(0)
    )
    assert len(list(tmp_path.glob("*.safetensors"))) == kept + 4


def test_another_head_shares_the_features(
    network: nn.Module, images: ImageList, canvases: Pixels, tmp_path: Path
) -> None:
    extractor(network, tmp_path)[0].extract(images, canvases, views(0))
    with torch.no_grad():
        split_network(network).head.weight.add_(1.0)
    again, counting = extractor(network, tmp_path)
    again.extract(images, canvases, views(0))
    assert counting.seen == 0


def test_a_variation_belongs_to_the_image_and_not_to_its_place(
    network: nn.Module, images: ImageList, canvases: Pixels, tmp_path: Path
) -> None:
    found = extractor(network, tmp_path / "a")[0].extract(images, canvases, views(1))[1]
    order = np.arange(len(images))[::-1]
    turned = ImageList(*(tuple(np.array(part, dtype=object)[order]) for part in (images.paths, images.targets)),
        *(tuple(part[i] for i in order) for part in (images.names, images.sha256)))  # fmt: skip
    backwards = extractor(network, tmp_path / "b")[0].extract(turned, Pixels(canvases.array[order]), views(1))[1]
    assert torch.allclose(backwards.flip(0), found, atol=1e-5)


def test_extracting_leaves_weights_and_statistics_alone(
    images: ImageList, canvases: Pixels, tmp_path: Path
) -> None:
    network = build("resnet18", num_classes=3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    extractor(network, tmp_path)[0].extract(images, canvases, views(0))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_head_that_learns_is_the_networks_own() -> None:
    network = build("mobilenet_v2", num_classes=3)
    learner = TrainableHead(network)
    learner.train()
    assert [type(m) for m in learner.network] == [nn.Dropout, nn.Linear]
    assert learner.network[0].training
    with torch.no_grad():
        learner.network[1].weight.fill_(3.0)
    assert (network.classifier[1].weight == 3.0).all()  # type: ignore[index,union-attr]


def test_only_a_single_linear_layer_can_be_solved() -> None:
    assert linear_head(build("lenet5", num_classes=3)) is not None
    assert linear_head(build("squeezenet1_1", num_classes=3)) is None


def test_rows_are_kept_for_known_labels_only() -> None:
    head = nn.Linear(4, 3)
    kept = rows_to_keep(head, ("ant", "bee", "wasp"), ("wasp", "ant"))
    assert kept is not None
    assert torch.equal(kept[0][[0, 2]], head.weight[[0, 2]])
    assert (kept[0][1] == 0).all()
    assert kept[1][1] == 0
    assert rows_to_keep(head, ("ant", "bee", "wasp"), ()) is None


def test_a_list_that_shares_images_computes_the_others_alone(
    network: nn.Module, images: ImageList, canvases: Pixels, tmp_path: Path
) -> None:
    def part(places: list[int]) -> tuple[ImageList, Pixels]:
        some = dataclasses.replace(
            images,
            paths=tuple(images.paths[i] for i in places),
            targets=images.targets[places],
            names=tuple(images.names[i] for i in places),
            sha256=tuple(images.sha256[i] for i in places),
        )
        return some, Pixels(canvases.array[places])

    places = list(range(len(images)))
    expected = extractor(network, tmp_path / "all")[0].extract(images, canvases, views(2))
    extractor(network, tmp_path / "kept")[0].extract(*part(places[3:]), views(1))
    shared, counting = extractor(network, tmp_path / "kept")
    found = shared.extract(*part(places[::-1]), views(2))
    assert counting.seen == 2 * 3 + len(images)
    assert torch.allclose(found, expected.flip(1), atol=1e-6)
