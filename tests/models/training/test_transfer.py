"""Learning on: backbone and known rows are carried over, by label and not by place."""

import pytest
import torch

from models.errors import WeightsMismatch
from models.training.transfer import transfer_weights
from models.zoo.registry import build

OLD, NEW = ("ant", "bee", "wasp"), ("fly", "wasp", "ant", "moth")


@pytest.mark.parametrize("name", ["lenet5", "mobilenet_v1_025", "googlenet"])
def test_rows_follow_their_labels(name: str) -> None:
    old = build(name, num_classes=3)
    state = old.state_dict()
    transferred = transfer_weights(name, {}, state, OLD, NEW)
    assert transferred.kept == ("wasp", "ant")
    new = transferred.network.state_dict()
    differing = {key for key in new if new[key].shape != state[key].shape}
    for key in differing:
        assert torch.equal(new[key][1], state[key][2])
        assert torch.equal(new[key][2], state[key][0])
        assert not any(torch.equal(new[key][row], old_row) for row in (0, 3) for old_row in state[key])
    assert differing
    assert all(torch.equal(new[key], state[key]) for key in new if key not in differing)


def test_known_labels_keep_their_logits() -> None:
    old = build("lenet5", num_classes=3).eval()
    new = transfer_weights("lenet5", {}, old.state_dict(), OLD, NEW).network.eval()
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(new(image)[:, [1, 2]], old(image)[:, [2, 0]], atol=1e-6)


def test_parameters_of_the_architecture_are_kept() -> None:
    old = build("lenet5", num_classes=3, activation="relu")
    new = transfer_weights("lenet5", {"activation": "relu"}, old.state_dict(), OLD, NEW).network
    assert any(isinstance(m, torch.nn.ReLU) for m in new.modules())


def test_a_state_of_another_network_is_refused() -> None:
    with pytest.raises(WeightsMismatch, match="do not fit lenet5"):
        transfer_weights("lenet5", {}, build("mobilenet_v1_025", num_classes=3).state_dict(), OLD, NEW)
