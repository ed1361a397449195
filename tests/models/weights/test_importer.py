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
