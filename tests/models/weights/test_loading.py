"""Weights into networks: all fits, or every misfit is named; a new head is the one allowed difference."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file

from models.errors import UnknownWeights, WeightsCorrupt, WeightsMismatch, WeightsNotFound
from models.weights.loading import build_with_weights, default_preprocessing, fit, load_weights
from models.weights.published import resolve
from models.weights.source import Checksum
from models.weights.store import WeightsStore
from models.zoo import registry


@pytest.fixture
def store(tmp_path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights", offline=True)


def trained(name, num_classes=10, channels=3, **params):
    torch.manual_seed(0)
    return registry.build(name, num_classes, channels, **params)


def saved(network, path):
    torch.save(network.state_dict(), path)
    return path


def equal(one, other) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_state_dict_under_torchvisions_layout_goes_from_the_server_into_the_network(server, tmp_path):
    """The real path: enum, mirror, download, the digits in the name, weights_only, every tensor."""
    network = trained("squeezenet1_1", 1000)
    content = saved(network, tmp_path / "w.pth").read_bytes()
    published = resolve("squeezenet1_1")
    path = "/models/squeezenet1_1-b8a52dc0.pth"
    assert published.url == f"https://download.pytorch.org{path}"
    server.files[path] = content
    store = WeightsStore(tmp_path / "weights", server.url)
    with pytest.raises(WeightsCorrupt, match="b8a52dc0"):
        build_with_weights("squeezenet1_1", "imagenet", store)

    digits = hashlib.sha256(content).hexdigest()[:8]
    server.files[f"/models/squeezenet1_1-{digits}.pth"] = content
    ours = resolve("squeezenet1_1").__class__(
        **{
            **vars(published),
            "filename": f"squeezenet1_1-{digits}.pth",
            "url": f"https://download.pytorch.org/models/squeezenet1_1-{digits}.pth",
            "checksum": Checksum(sha256_prefix=digits),
        }
    )
    server.cut_after[f"/models/squeezenet1_1-{digits}.pth"] = 1_000_000
    loaded_network, loaded = build_with_weights("squeezenet1_1", ours, store)
    assert equal(loaded_network, network)
    assert loaded.labels[207] == "golden retriever"
    assert loaded.provenance["sha256"].startswith(digits)
    assert loaded.provenance["url"].startswith("https://download.pytorch.org/models/")
    assert (loaded.preprocessing.height, loaded.preprocessing.resize) == (224, 256)
    assert loaded.report.new_head == ()


def test_no_weights_leave_the_network_as_it_was_built(store):
    network = trained("lenet5")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    loaded = load_weights(network, "lenet5", "none", store)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert loaded.provenance["origin"] == "none"
    assert (loaded.preprocessing.height, loaded.preprocessing.resize) == (32, 32)


def test_a_file_of_ones_own_is_loaded_with_its_sha256(tmp_path, store):
    network = trained("lenet5")
    path = tmp_path / "own.safetensors"
    save_file(network.state_dict(), path)
    other, loaded = build_with_weights("lenet5", path, store, num_classes=10)
    assert equal(other, network)
    assert loaded.provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.provenance["filename"] == "own.safetensors"


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("mobilenet_v1_025", ("head.weight", "head.bias")),
        ("resnet18", ("fc.weight", "fc.bias")),
        ("squeezenet1_1", ("classifier.1.weight", "classifier.1.bias")),
        ("nin_cifar", ("head.0.weight", "head.0.bias")),
        (
            "googlenet",
            ("fc.weight", "fc.bias", "aux1.fc2.weight", "aux1.fc2.bias", "aux2.fc2.weight", "aux2.fc2.bias"),
        ),
        ("maxvit_t", ("classifier.5.weight",)),
    ],
)
def test_another_class_count_gives_a_new_head_that_is_reported(tmp_path, store, name, heads):
    path = saved(trained(name, 10), tmp_path / "w.pth")
    network, loaded = build_with_weights(name, path, store, num_classes=3)
    assert loaded.report.new_head == heads
    assert loaded.labels == ()
    assert "new, untrained head" in loaded.report.describe()
    before = torch.load(path, weights_only=True)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items() if key not in heads)


def test_grey_input_sums_the_filters_and_is_reported(tmp_path, store):
    coloured = trained("resnet18", 10).eval()
    path = saved(coloured, tmp_path / "w.pth")
    grey, loaded = build_with_weights("resnet18", path, store, num_classes=10, channels=1)
    assert loaded.report.adapted == ("conv1.weight: RGB filters summed for grey input",)
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = coloured(image.expand(-1, 3, -1, -1))
        assert torch.allclose(grey.eval()(image), expected, atol=1e-5)


def test_a_count_of_channels_that_cannot_be_made_is_refused_with_both_shapes(tmp_path, store):
    path = saved(trained("resnet18", 10), tmp_path / "w.pth")
    with pytest.raises(WeightsMismatch, match=r"conv1.weight is \[64, 3, 7, 7\], expected \[64, 4, 7, 7\]"):
        build_with_weights("resnet18", path, store, num_classes=10, channels=4)


def test_missing_and_unexpected_tensors_are_named(tmp_path):
    network = trained("lenet5")
    state = dict(network.state_dict())
    state["surplus.weight"] = state.pop("features.0.weight")
    with pytest.raises(WeightsMismatch, match=r"missing: features\.0\.weight; unexpected: surplus\.weight"):
        fit(network, state, "own.pth")


def test_a_shape_that_does_not_match_is_named_with_both_shapes(tmp_path):
    network = trained("lenet5")
    state = {**network.state_dict(), "neck.1.weight": torch.zeros(120, 256)}
    with pytest.raises(WeightsMismatch, match=r"neck\.1\.weight is \[120, 256\], expected \[120, 400\]"):
        fit(network, state, "own.pth")


def test_a_head_of_another_width_is_a_mismatch_and_no_new_head(tmp_path):
    network = trained("lenet5")
    state = {**network.state_dict(), "head.weight": torch.zeros(7, 99)}
    with pytest.raises(WeightsMismatch, match=r"head\.weight is \[7, 99\], expected \[10, 84\]"):
        fit(network, state, "own.pth")


def test_a_missing_head_is_a_mismatch_unless_the_weights_say_they_have_none(tmp_path):
    network = trained("lenet5")
    state = {name: value for name, value in network.state_dict().items() if not name.startswith("head")}
    with pytest.raises(WeightsMismatch, match=r"missing: head\.weight, head\.bias"):
        fit(network, state, "own.pth")
    assert fit(network, state, "own.pth", headless=True).new_head == ("head.weight", "head.bias")


def test_weights_of_another_architecture_are_refused(tmp_path, store):
    path = saved(trained("resnet18", 10), tmp_path / "w.pth")
    with pytest.raises(WeightsMismatch, match="does not fit resnet34"):
        build_with_weights("resnet34", path, store, num_classes=10)
    with pytest.raises(WeightsMismatch, match="wanted for mobilenet_v2"):
        load_weights(trained("resnet18"), "mobilenet_v2", "none", store)


def test_files_older_than_the_counters_of_batch_normalisation_load(tmp_path):
    network = trained("resnet18")
    state = {name: v for name, v in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert fit(network, state, "old.pth").tensors == len(state)


def test_densenets_old_names_load(tmp_path):
    """torchvision's published DenseNet files say `norm.1.weight` where today's network says `norm1.weight`."""
    network = trained("densenet121")
    renamed = {}
    for name, value in network.state_dict().items():
        head, middle, tail = name.partition("denselayer")
        for kind in ("norm", "conv"):
            for number in "12":
                tail = tail.replace(f".{kind}{number}.", f".{kind}.{number}.")
        renamed[head + middle + tail] = value + 0.5 if value.is_floating_point() else value
    assert any(".norm.1." in name for name in renamed)
    fit(network, renamed, "densenet121-a639ec97.pth")
    assert torch.equal(
        network.state_dict()["features.denseblock1.denselayer1.norm1.weight"],
        renamed["features.denseblock1.denselayer1.norm.1.weight"],
    )


def test_vision_transformers_old_names_load(tmp_path):
    """torchvision's published ViT files say `mlp.linear_1` where today's network says `mlp.0`."""
    network = trained("vit_b_32", 10)
    old = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): value
        for name, value in network.state_dict().items()
    }
    assert any("linear_1" in name for name in old)
    versioned = type(network.state_dict())(old)
    versioned._metadata = {key: {"version": 1} for key in network.state_dict()._metadata}
    assert fit(network, versioned, "vit_b_32-d86f8d99.pth").new_head == ()


def test_unknown_weights_are_answered_with_those_that_there_are(store):
    with pytest.raises(UnknownWeights, match="imagenet1k_v1, imagenet1k_v2"):
        resolve("resnet50", "imagenet1k_v9")
    with pytest.raises(UnknownWeights, match="no published weights"):
        resolve("lenet5", "imagenet")


def test_absent_weights_name_the_file(store):
    with pytest.raises(WeightsNotFound, match=r"resnet18-f37072fd\.pth"):
        build_with_weights("resnet18", "imagenet", store)


def test_weights_for_another_image_size_build_the_network_for_it(tmp_path, store):
    swag = resolve("vit_b_16", "imagenet1k_swag_e2e_v1")
    assert swag.params == {"image_size": 384}
    assert swag.licence == "CC-BY-NC-4.0"
    assert swag.preprocessing.height == 384


def test_timms_weights_are_translated_by_timm(tmp_path, server):
    """A file in timm's old form of ConvNeXt goes through timm's own filter; the checksum comes from the header."""
    network = trained("timm/resnet18", 1000)
    path = tmp_path / "model.safetensors"
    save_file(network.state_dict(), path)
    source = resolve("timm/resnet18", "a1_in1k")
    assert source.url == "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
    server.files["/timm/resnet18.a1_in1k/resolve/main/model.safetensors"] = path.read_bytes()
    server.headers["/timm/resnet18.a1_in1k/resolve/main/model.safetensors"] = {
        "X-Linked-Etag": f'"{hashlib.sha256(path.read_bytes()).hexdigest()}"'
    }
    store = WeightsStore(tmp_path / "weights", server.url)
    loaded_network, loaded = build_with_weights("timm/resnet18", "imagenet", store)
    assert equal(loaded_network, network)
    assert loaded.provenance["verified_by"] == "the sha256 recorded when the file came"
    assert loaded.provenance["licence"] == "apache-2.0"
    assert loaded.preprocessing.interpolation == "bicubic"
    three, report = build_with_weights("timm/resnet18", "a1_in1k", store, num_classes=3, channels=1)
    assert report.report.new_head == ("fc.weight", "fc.bias")
    assert three(torch.rand(2, 1, 64, 64)).shape == (2, 3)


def test_a_timm_file_of_another_network_is_refused(tmp_path, server):
    path = tmp_path / "model.safetensors"
    save_file(trained("timm/resnet34", 1000).state_dict(), path)
    server.files["/timm/resnet18.a1_in1k/resolve/main/model.safetensors"] = path.read_bytes()
    with pytest.raises(WeightsMismatch, match=r"does not fit timm's resnet18.*layer1\.2"):
        build_with_weights("timm/resnet18", "a1_in1k", WeightsStore(tmp_path / "weights", server.url))


def test_default_preprocessing_uses_small_images_whole():
    assert default_preprocessing(registry.get("nin_cifar")).resize == 32
    assert default_preprocessing(registry.get("zfnet")).resize == 256


def test_default_preprocessing_follows_a_parameter_that_sets_the_size(store):
    _, loaded = build_with_weights("convnet", "none", store, 3, input_size=48, pattern="INPUT -> CONV -> FC")
    assert (loaded.preprocessing.height, loaded.preprocessing.resize) == (48, 48)
