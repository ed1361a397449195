"""Weights of a user's own: into the folder when they fit, found by name, verified, and refused otherwise."""

import pytest
import torch
from safetensors.torch import save_file

from models.errors import WeightsCorrupt, WeightsError, WeightsMismatch
from models.weights.importer import import_weights
from models.weights.inventory import all_imported, verify_folder
from models.weights.loading import build_with_weights
from models.weights.published import resolve
from models.weights.store import WeightsStore
from models.zoo import registry


@pytest.fixture
def store(tmp_path) -> WeightsStore:
    return WeightsStore(tmp_path / "weights", offline=True)


@pytest.fixture
def file(tmp_path):
    torch.manual_seed(0)
    network = registry.build("lenet5", 4, 1)
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    return tmp_path / "own.safetensors"


def test_an_imported_file_is_found_by_name_with_its_labels(file, store):
    labels = ("ant", "bee", "wasp", "fly")
    source, report = import_weights(file, "lenet5", "insects", store, labels=labels, licence="CC0-1.0")
    assert report.new_head == ()
    assert (source.num_classes, source.licence) == (4, "CC0-1.0")
    network, loaded = build_with_weights("lenet5", "insects", store, channels=1)
    assert loaded.labels == labels
    assert torch.equal(network.head.weight, registry_weight(file))
    assert resolve("lenet5", "insects", store).checksum.sha256 == loaded.provenance["sha256"]


def registry_weight(file):
    from models.weights.reading import read_state

    return read_state(file)["head.weight"]


def test_an_imported_convnet_keeps_the_parameters_it_is_built_with(tmp_path, store):
    params = {"pattern": "INPUT -> [CONV -> RELU -> POOL]*2 -> FC", "filters": 4, "input_size": 16}
    save_file(registry.build("convnet", 3, **params).state_dict(), tmp_path / "c.safetensors")
    import_weights(tmp_path / "c.safetensors", "convnet", "tiny", store, params=params)
    network, _ = build_with_weights("convnet", "tiny", store)
    assert network(torch.rand(1, 3, 16, 16)).shape == (1, 3)


def test_a_name_that_is_taken_or_published_or_unsafe_is_refused(file, store):
    import_weights(file, "lenet5", "insects", store)
    for name in ("insects", "imagenet", "none", "../up", "Capital", ""):
        with pytest.raises(WeightsError):
            import_weights(file, "lenet5", name, store)


def test_a_file_for_another_architecture_is_refused_and_not_copied(file, store):
    with pytest.raises(WeightsMismatch, match="head of resnet18"):
        import_weights(file, "resnet18", "wrong", store)
    assert all_imported(store.folder) == []
    assert not list(store.folder.rglob("*.safetensors"))


def test_labels_of_another_count_are_refused(file, store):
    with pytest.raises(WeightsMismatch, match="3 labels for 4 classes"):
        import_weights(file, "lenet5", "insects", store, labels=("a", "b", "c"))


def test_verifying_the_folder_finds_the_changed_file(file, store):
    import_weights(file, "lenet5", "insects", store)
    import_weights(file, "lenet5", "others", store)
    (store.folder / "notes.txt").write_text("mine")
    changed = store.folder / "imported" / "lenet5" / "others.safetensors"
    changed.write_bytes(changed.read_bytes()[:-1])
    states = {finding.filename: finding.state for finding in verify_folder(store)}
    assert states == {
        "imported/lenet5/insects.safetensors": "ok",
        "imported/lenet5/others.safetensors": "corrupt",
        "notes.txt": "unknown",
    }
    with pytest.raises(WeightsCorrupt):
        build_with_weights("lenet5", "others", store, channels=1)


def own(tmp_path, **tensors):
    """A file for LeNet-5 with some tensors of its own, as torch saves it: a view may be larger than its file."""
    torch.save({**registry.build("lenet5", 4, 1).state_dict(), **tensors}, tmp_path / "own.pth")
    return tmp_path / "own.pth"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_refused_with_their_names(tmp_path, store, value):
    file = own(tmp_path, **{"head.weight": torch.full((4, 84), value)})
    with pytest.raises(WeightsCorrupt, match=r"head\.weight \(336 of 336\).*earlier checkpoint"):
        import_weights(file, "lenet5", "insects", store)
    with pytest.raises(WeightsCorrupt, match="NaN"):
        build_with_weights("lenet5", file, store, 4, 1)
    assert not all_imported(store.folder)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"head.weight": torch.zeros(1).expand(3_000_000, 84)}, r"\[3000000, 84\], expected .* 1 to 100,000"),
        ({"head.weight": torch.tensor(1.0)}, r"\[\], expected"),
        ({"head.weight": torch.zeros(0, 84)}, r"\[0, 84\], expected"),
    ],
)
def test_a_head_that_claims_any_number_of_classes_is_refused_before_a_network_is_made(
    tmp_path, store, tensors, said
):
    with pytest.raises(WeightsMismatch, match=said):
        import_weights(own(tmp_path, **tensors), "lenet5", "insects", store)


def test_a_first_layer_that_reads_neither_grey_nor_rgb_is_refused(tmp_path, store):
    stem = next(name for name, value in registry.build("lenet5", 4, 1).state_dict().items() if value.dim() == 4)
    file = own(tmp_path, **{stem: torch.zeros(1).expand(6, 1_000_000_000, 5, 5)})
    with pytest.raises(WeightsMismatch, match="1000000000 channels"):
        import_weights(file, "lenet5", "insects", store)


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(4, 84).to_sparse(), torch.zeros(4, 84, dtype=torch.complex64)],
    ids=["sparse", "complex"],
)
def test_tensors_of_another_make_are_refused(tmp_path, store, tensor):
    with pytest.raises(WeightsCorrupt, match=r"sparse, quantized, complex.*head\.weight"):
        import_weights(own(tmp_path, **{"head.weight": tensor}), "lenet5", "insects", store)


@pytest.mark.parametrize(("label", "said"), [("b\u202eee", r"label 2, .*U\+202E"), (" ", "only spaces")])
def test_labels_that_cannot_be_seen_are_refused(file, store, label, said):
    with pytest.raises(WeightsError, match=said):
        import_weights(file, "lenet5", "insects", store, labels=("ant", label, "wasp", "fly"))
