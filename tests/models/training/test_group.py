"""How a batch, the validation images and the devices are shared out."""

import dataclasses
import itertools
from pathlib import Path

import pytest
import torch
from support.ranks import image_training
from support.teaching import CPU, Watching

from models.errors import DeviceUnavailable
from models.training.batches import EpochBatchSampler
from models.training.checkpoint import Checkpoints, weights_sha256
from models.training.group import Alone, leaves_parameters_unused, share_of, wants_shared_statistics
from models.training.image_training import ImageTraining, loader_processes
from models.training.interruption import Interrupted
from models.training.loop import fit
from models.training.parallel import Devices, ranks_for
from models.training.precision import memory_format
from models.training.recipe import Recipe
from models.training.seeding import seed_everything
from models.zoo.registry import build


class OneOf(Alone):
    """A rank, as far as its number matters."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size  # type: ignore[misc]


@pytest.mark.parametrize(("count", "size"), [(7, 2), (32, 8), (1, 3), (0, 2), (81, 4)])
def test_every_image_is_one_ranks(count: int, size: int) -> None:
    shares = [range(count)[share_of(count, rank, size)] for rank in range(size)]
    assert list(itertools.chain(*shares)) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize(
    ("count", "batch_size", "ranks", "sizes"),
    [
        (64, 16, 4, [16, 16, 16, 16]),
        (65, 16, 1, [16, 16, 16, 17]),
        (67, 16, 1, [16, 16, 16, 16, 3]),
        (67, 16, 2, [16, 16, 16, 19]),
        (68, 16, 2, [16, 16, 16, 16, 4]),
        (5, 16, 2, [5]),
        (3, 1, 1, [1, 1, 1]),
    ],
)
def test_a_last_batch_has_two_images_for_each_rank(
    count: int, batch_size: int, ranks: int, sizes: list[int]
) -> None:
    sampler = EpochBatchSampler(count, batch_size, seed=1, ranks=ranks)
    batches = sampler.epoch(0)
    assert [len(batch) for batch in batches] == sizes
    assert [sampler.size(step) for step in range(len(sampler))] == sizes
    assert sorted(itertools.chain(*batches)) == list(range(count))


def test_ranks_see_together_what_one_alone_sees() -> None:
    training = image_training()
    whole = training.state(CPU, Alone(), None).batches.epoch(1, 2)
    shares = [training.state(CPU, OneOf(rank, 2), None).batches.epoch(1, 2) for rank in (0, 1)]
    for (inputs, targets), *parts in zip(whole, *shares, strict=True):
        assert torch.equal(inputs, torch.cat([part for part, _ in parts]))
        assert torch.equal(targets, torch.cat([labels for _, labels in parts]))


def test_ranks_draw_differently_and_every_time_the_same() -> None:
    """What mixing and dropout draw, of which a checkpoint knows rank 0's at most."""

    def drawn(rank: int) -> list[float]:
        batches = image_training().state(CPU, OneOf(rank, 2), None).batches.epoch(0, 1)
        return [float(torch.rand(())) for _ in batches]

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.parametrize(
    ("asked", "batch_size", "images", "ranks"),
    [(1, 64, 10_000, 1), (2, 64, 100, 2), (8, 9, 100, 4), (4, 64, 5, 2), (2, 1, 100, 1), (0, 256, 10**6, 1)],
)
def test_no_more_processes_train_than_have_two_images_each(
    asked: int, batch_size: int, images: int, ranks: int
) -> None:
    assert ranks_for(Devices(asked), CPU, Recipe(batch_size=batch_size), images) == ranks


@pytest.mark.parametrize(
    ("there", "batch_size", "images", "ranks"),
    [(4, 128, 10_000, 2), (4, 256, 10_000, 4), (4, 127, 10_000, 1), (4, 256, 100, 1), (1, 256, 10_000, 1)],
)
def test_by_itself_a_training_takes_the_gpus_that_are_worth_it(
    monkeypatch: pytest.MonkeyPatch, there: int, batch_size: int, images: int, ranks: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    assert ranks_for(Devices(0), torch.device("cuda"), Recipe(batch_size=batch_size), images) == ranks


def test_more_gpus_than_there_are_is_an_error() -> None:
    with pytest.raises(DeviceUnavailable, match=r"FOVEA_TRAINING_DEVICES is 99, but torch sees \d+"):
        ranks_for(Devices(99), torch.device("cuda"), Recipe(), 1000)


def test_images_lie_in_memory_as_device_and_network_want_them() -> None:
    dense, depthwise = build("lenet5", num_classes=3), build("mobilenet_v1_025", num_classes=3)
    assert memory_format(CPU, dense) == torch.contiguous_format
    assert memory_format(CPU, depthwise) == torch.channels_last
    assert memory_format(torch.device("cuda"), dense) == torch.channels_last


def test_with_channels_last_a_resumed_training_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    def training() -> ImageTraining:
        seed_everything(5, "network")
        small = image_training(batch_size=32, epochs=2)
        return dataclasses.replace(small, network=build("mobilenet_v1_025", num_classes=10))

    unbroken, stopped, resumed = training(), training(), training()
    fit(unbroken.state(CPU, Alone(), None), Watching())
    assert unbroken.network.get_parameter("features.0.conv.weight").is_contiguous(
        memory_format=torch.channels_last
    )
    checkpoints = Checkpoints(tmp_path, "this one")
    with pytest.raises(Interrupted):
        fit(stopped.state(CPU, Alone(), checkpoints), Watching(stop_at=(1, 3)))
    fit(resumed.state(CPU, Alone(), checkpoints), Watching())
    assert weights_sha256(dict(resumed.network.state_dict())) == weights_sha256(
        dict(unbroken.network.state_dict())
    )


@pytest.mark.parametrize(
    ("device", "ranks", "cores", "processes"),
    [("cpu", 1, 16, 0), ("cuda", 1, 1, 0), ("cuda", 1, 4, 3), ("cuda", 1, 64, 8), ("cuda", 4, 16, 3)],
)
def test_ranks_share_the_cores_that_prepare_images(device: str, ranks: int, cores: int, processes: int) -> None:
    assert loader_processes(torch.device(device), ranks, cores) == processes


def test_few_images_on_each_gpu_are_normalised_together() -> None:
    network, gpu = build("mobilenet_v1_025", num_classes=3), torch.device("cuda")
    assert wants_shared_statistics(network.train(), gpu, 31)
    assert not wants_shared_statistics(network.train(), gpu, 32)
    assert not wants_shared_statistics(network.train(), CPU, 31)
    assert not wants_shared_statistics(network.eval(), gpu, 31)
    assert not wants_shared_statistics(build("lenet5", num_classes=3).train(), gpu, 2)


def test_a_network_that_shares_its_statistics_is_the_same_network() -> None:
    """What the optimizer and a checkpoint hold stays, and so does what it answers."""
    network = build("mobilenet_v1_025", num_classes=3).eval()
    image = torch.rand(1, 3, 224, 224)
    parameters, state, answer = list(network.parameters()), list(network.state_dict()), network(image)
    shared = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert [id(p) for p in shared.parameters()] == [id(p) for p in parameters]
    assert list(shared.state_dict()) == state
    assert torch.allclose(shared(image), answer, atol=1e-6)
    assert wants_shared_statistics(shared.train(), torch.device("cuda"), 2)


def test_layers_that_no_step_uses_are_noticed_and_nothing_is_changed() -> None:
    network = build("mobilenet_v1_025", num_classes=3).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert not leaves_parameters_unused(network, (3, 64, 64), CPU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(module.training for module in network.modules())
    network.spare = torch.nn.Linear(2, 2)
    assert leaves_parameters_unused(network, (3, 64, 64), CPU)
    network.spare.requires_grad_(False)
    assert not leaves_parameters_unused(network, (3, 64, 64), CPU)
