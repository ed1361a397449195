"""MobileNet v1's published Keras weights, with the real file."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from models.errors import WeightsCorrupt
from models.weights.keras import read_keras
from models.weights.loading import build_with_weights
from models.weights.store import WeightsStore

FILE = "mobilenet_2_5_224_tf.h5"

pytestmark = pytest.mark.data


@pytest.fixture
def store(test_data) -> WeightsStore:
    return WeightsStore(test_data / "weights", offline=True)


def test_the_file_holds_475_544_values(test_data):
    state = read_keras(test_data / "weights" / FILE)
    assert sum(value.numel() for value in state.values()) == 475_544


def test_every_value_of_the_file_is_in_the_network_and_nothing_else_is(store):
    network, loaded = build_with_weights("mobilenet_v1_025", "imagenet", store)
    held = {name: v for name, v in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert sum(value.numel() for value in held.values()) == 475_544
    assert loaded.report.tensors == len(held)
    assert loaded.provenance["sha256"] == "4519e3005c17d74f5f453a75412ebb4b98afc2e31c5038fc85b13997b37ac7bf"
    assert loaded.provenance["verified_by"] == "the sha256 known to Fovea"
    assert loaded.provenance["licence"] == "Apache-2.0"


def test_the_100_photographs_give_61_first_and_81_among_the_first_five(test_data, store):
    """The reference figures, with the reference's preprocessing: Pillow, shorter side to 256, centre 224."""
    network, _ = build_with_weights("mobilenet_v1_025", "imagenet", store)
    network.eval()
    photographs = sorted((test_data / "imagenet" / "samples").iterdir())
    images = torch.stack([_prepared(path) for path in photographs])
    with torch.no_grad():
        best = torch.cat([network(batch).topk(5).indices for batch in images.split(20)])
    truth = torch.tensor([int(path.name[:3]) for path in photographs])
    assert abs(int((best[:, 0] == truth).sum()) - 61) <= 1
    assert abs(int((best == truth[:, None]).sum()) - 81) <= 1


def _prepared(path) -> torch.Tensor:
    image = Image.open(path).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)


@pytest.mark.parametrize("damage", ["one bit", "cut short", "empty"])
def test_a_corrupted_copy_is_refused_with_both_checksums(test_data, tmp_path, damage):
    copy = tmp_path / FILE
    shutil.copy(test_data / "weights" / FILE, copy)
    content = bytearray(copy.read_bytes())
    content[len(content) // 2] ^= 1
    copy.write_bytes({"one bit": bytes(content), "cut short": bytes(content[:1_000_000]), "empty": b""}[damage])
    with pytest.raises(WeightsCorrupt, match="expected 4519e3005c17d74f"):
        build_with_weights("mobilenet_v1_025", "imagenet", WeightsStore(tmp_path, offline=True))


def test_it_reads_any_image_size_and_class_count_and_grey(store):
    network, loaded = build_with_weights("mobilenet_v1_025", "imagenet", store, num_classes=2, channels=1)
    with torch.no_grad():
        for height, width in ((224, 224), (128, 160), (97, 33)):
            assert network.eval()(torch.rand(1, 1, height, width)).shape == (1, 2)
    assert loaded.report.new_head == ("head.weight", "head.bias")
    assert loaded.report.adapted == ("features.0.conv.weight: RGB filters summed for grey input",)


def test_another_width_does_not_take_the_file(test_data, tmp_path):
    from models.errors import WeightsMismatch
    from models.weights.loading import fit
    from models.zoo import registry

    state = read_keras(test_data / "weights" / FILE)
    with pytest.raises(
        WeightsMismatch, match=r"features\.0\.conv\.weight is \[8, 3, 3, 3\], expected \[16, 3, 3, 3\]"
    ):
        fit(registry.build("mobilenet_v1_050"), state, FILE)
