"""Files of tensors: what is read, and what is refused because it could run code or is not whole."""

import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from models.errors import WeightsCorrupt, WeightsNotFound
from models.weights.reading import read_state

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


class _Command:
    """What an attacker pickles: reading it with a plain unpickler runs the command."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def same(state) -> bool:
    return state.keys() == STATE.keys() and all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_a_state_dict_is_read_from_both_formats(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors")
    torch.save(STATE, tmp_path / "w.pth")
    assert same(read_state(tmp_path / "w.safetensors"))
    assert same(read_state(tmp_path / "w.pth"))


def test_the_format_of_older_releases_is_read_too(tmp_path):
    torch.save(STATE, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert same(read_state(tmp_path / "w.pth"))


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_training_scripts_wrapper_is_taken_off(tmp_path, wrapper):
    torch.save({wrapper: STATE, "epoch": 3}, tmp_path / "w.pth")
    assert same(read_state(tmp_path / "w.pth"))


def test_the_prefix_of_parallel_training_is_taken_off(tmp_path):
    torch.save({f"module.{name}": value for name, value in STATE.items()}, tmp_path / "w.pth")
    assert same(read_state(tmp_path / "w.pth"))


def test_layer_versions_survive(tmp_path):
    network = torch.nn.BatchNorm2d(3)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    assert read_state(tmp_path / "w.pth")._metadata == network.state_dict()._metadata


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, zipped):
    proof = tmp_path / "it-ran"
    torch.save({"a.weight": _Command(proof)}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsCorrupt, match=r"could run code.*\.safetensors"):
        read_state(tmp_path / "w.pth")
    assert not proof.exists()


def test_code_is_refused_even_where_the_environment_allows_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    proof = tmp_path / "it-ran"
    torch.save({"a.weight": _Command(proof)}, tmp_path / "w.pth")
    with pytest.raises(WeightsCorrupt):
        read_state(tmp_path / "w.pth")
    assert not proof.exists()


def test_a_plain_pickle_is_refused(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps(_Command(tmp_path / "it-ran")))
    with pytest.raises(WeightsCorrupt):
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("kept", [0, 10, 300, 800])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path, suffix, kept):
    path = tmp_path / f"w{suffix}"
    state = {"a.weight": torch.zeros(100, 100)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsCorrupt, match=r"damaged|whole"):
        read_state(path)


def test_a_torchscript_program_is_told_from_weights(tmp_path):
    with pytest.warns(FutureWarning):  # it is on its way out, but its files are about
        torch.jit.trace(torch.nn.Linear(3, 2), torch.ones(1, 3)).save(tmp_path / "w.pt")
    with pytest.raises(WeightsCorrupt, match=r"TorchScript program.*state_dict\(\)"):
        read_state(tmp_path / "w.pt")


def test_a_value_that_is_no_tensor_is_named(tmp_path):
    torch.save({**STATE, "epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(WeightsCorrupt, match="epoch"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("content", [[1, 2], torch.ones(3), {}])
def test_what_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsCorrupt, match="expected tensors by name"):
        read_state(tmp_path / "w.pth")


def test_another_format_is_refused_with_those_that_are_read(tmp_path):
    (tmp_path / "w.ckpt").write_bytes(b"?")
    with pytest.raises(WeightsCorrupt, match=r"\.safetensors.*\.pth.*\.h5"):
        read_state(tmp_path / "w.ckpt")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsNotFound, match=r"absent\.pth"):
        read_state(tmp_path / "absent.pth")


def test_a_keras_file_that_is_no_hdf5_is_refused(tmp_path):
    (tmp_path / "w.h5").write_bytes(b"not HDF5 at all")
    with pytest.raises(WeightsCorrupt, match="HDF5"):
        read_state(tmp_path / "w.h5")
