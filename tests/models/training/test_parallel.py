"""Several processes learn what one learns, stop and resume to the bit, and what goes wrong in one ends them all.

On a CPU over gloo; between GPUs the same code has NCCL carry the gradients.
"""

from pathlib import Path

import pytest
import torch
from support.gpu import needs_gpu
from support.ranks import broken, greedy, image_training
from support.teaching import CPU, Watching

from models.training.checkpoint import Checkpoints, weights_sha256
from models.training.errors import Diverged
from models.training.group import Alone
from models.training.image_training import ImageTraining
from models.training.interruption import Interrupted
from models.training.loop import fit
from models.training.parallel import train_on_ranks
from models.training.precision import compute_in_float32
from models.training.progress import FitResult

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def known_to_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a rank finds what tests hang into a network."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def on_two_ranks(training: ImageTraining, folder: Path, watching: Watching | None = None) -> FitResult:
    checkpoints = Checkpoints(folder / "checkpoints", "this one")
    return train_on_ranks(training, 2, CPU, watching or Watching(), checkpoints, silence_s=120)


def curves(result: FitResult) -> list[tuple[float, float, float, float]]:
    return [
        (record.loss, record.accuracy, record.validation_loss, record.validation_accuracy)
        for record in result.history
    ]


def weights_of(training: ImageTraining) -> str:
    return weights_sha256(dict(training.network.state_dict()))


def test_they_learn_what_one_learns_and_leave_nothing(tmp_path: Path) -> None:
    alone = image_training()
    expected = fit(alone.state(CPU, Alone(), None), Watching())
    together, watching = image_training(), Watching()
    result = on_two_ranks(together, tmp_path, watching)
    assert curves(result) == [pytest.approx(line, rel=1e-4) for line in curves(expected)]
    assert (result.best_epoch, result.stopped) == (expected.best_epoch, expected.stopped)
    assert tuple(watching.epochs) == result.history
    assert watching.steps == [(epoch, step) for epoch in (1, 2, 3) for step in range(1, 8)]
    for ours, theirs in zip(together.network.parameters(), alone.network.parameters(), strict=True):
        assert ours.detach().numpy() == pytest.approx(theirs.detach().numpy(), abs=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


@needs_gpu
def test_one_rank_on_a_gpu_learns_what_a_process_does(tmp_path: Path) -> None:
    """Its gradients go through DistributedDataParallel over NCCL only where there are two."""
    gpu = torch.device("cuda")
    compute_in_float32()
    alone, together = image_training(), image_training()
    expected = fit(alone.state(gpu, Alone(), None), Watching())
    checkpoints = Checkpoints(tmp_path / "checkpoints", "this one")
    result = train_on_ranks(together, 1, gpu, Watching(), checkpoints, silence_s=120)
    assert curves(result) == [pytest.approx(line, rel=1e-2) for line in curves(expected)]


def test_stopped_in_the_middle_of_an_epoch_they_resume_to_the_bit(tmp_path: Path) -> None:
    recipe = {"augmentation": {"crop": "centre", "rotation": 5.0, "mixup": 0.4}, "schedule": "plateau"}
    unbroken = image_training(**recipe)
    expected = on_two_ranks(unbroken, tmp_path / "unbroken")
    with pytest.raises(Interrupted, match="terminated"):
        on_two_ranks(image_training(**recipe), tmp_path / "stopped", Watching(stop_at=(2, 3)))
    resumed, watching = image_training(**recipe), Watching()
    result = on_two_ranks(resumed, tmp_path / "stopped", watching)
    # Ranks hear of it a step or more later.
    assert (2, 3) < watching.steps[0] <= (3, 1)
    assert weights_of(resumed) == weights_of(unbroken)
    assert curves(result) == curves(expected)


def test_what_one_began_two_can_go_on_with(tmp_path: Path) -> None:
    """Another machine may have other devices."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", "this one")
    with pytest.raises(Interrupted):
        fit(image_training().state(CPU, Alone(), checkpoints), Watching(stop_at=(2, 3)))
    watching = Watching()
    result = on_two_ranks(image_training(), tmp_path, watching)
    assert watching.steps[0] == (2, 4)
    assert len(result.history) == 3


def test_cancelled_they_can_keep_the_best(tmp_path: Path) -> None:
    watching = Watching(stop_at=(3, 1), interruption=Interrupted("cancelled", keep_best=True))
    result = on_two_ranks(image_training(epochs=200), tmp_path, watching)
    assert result.stopped == "cancelled"
    assert 2 <= len(result.history) < 200


def test_one_that_runs_out_of_memory_has_all_begin_anew_with_smaller_parts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = fit(image_training().state(CPU, Alone(), None), Watching())
    training = image_training()
    training.network.register_forward_pre_hook(greedy)
    result = on_two_ranks(training, tmp_path)
    assert [record.args for record in caplog.records if "begin anew" in record.msg] == [(7,), (4,)]
    assert curves(result) == [pytest.approx(line, rel=1e-4) for line in curves(expected)]


def test_what_one_raises_is_raised_here_and_ends_the_other(tmp_path: Path) -> None:
    training = image_training()
    training.network.register_forward_pre_hook(broken)
    with pytest.raises(ValueError, match="device is broken") as raised:
        on_two_ranks(training, tmp_path)
    assert raised.value.__notes__ == ["rank 1 of the 2 that trained together"]


def test_a_loss_that_is_no_number_in_one_rank_ends_all_with_advice(tmp_path: Path) -> None:
    training = image_training(optimizer="sgd", learning_rate=10.0, clip_norm=None, momentum=0.999)
    training.network.head.weight.data.fill_(float("inf"))  # type: ignore[union-attr,operator]
    with pytest.raises(Diverged, match="lower the learning rate"):
        on_two_ranks(training, tmp_path)
