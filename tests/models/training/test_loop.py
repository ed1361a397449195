"""The loop learns, stops, resumes to the bit, and survives a shortage of memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.teaching import Watching, digit_pixels, small_training
from torch import nn

from models.training.checkpoint import Checkpoints, weights_sha256
from models.training.errors import Diverged, OutOfMemory
from models.training.interruption import Interrupted
from models.training.loop import evaluate, fit, take_step
from models.training.pixels import Pixels

Data = tuple[Pixels, np.ndarray]


@pytest.fixture(scope="module")
def train() -> Data:
    return digit_pixels(160)


@pytest.fixture(scope="module")
def validation() -> Data:
    return digit_pixels(80, seed=1)


def test_it_learns_and_keeps_the_best_epoch(train: Data, validation: Data) -> None:
    training, watching = small_training(train, validation, epochs=6), Watching()
    outcome = fit(training, watching)
    assert len(outcome.history) == 6
    assert outcome.history == tuple(watching.epochs)
    assert outcome.history[-1].loss < 0.6 * outcome.history[0].loss
    best = max(outcome.history, key=lambda record: (record.validation_accuracy, -record.validation_loss))
    assert outcome.best_epoch == best.epoch
    logits = evaluate(training.network, training.validation.inputs)
    assert np.mean(logits.argmax(1) == validation[1]) == best.validation_accuracy > 0.5


def test_the_same_seed_trains_the_same_network_and_another_seed_another(train: Data, validation: Data) -> None:
    found = []
    for seed in (5, 5, 6):
        training = small_training(train, validation, epochs=1, seed=seed)
        fit(training, Watching())
        found.append(weights_sha256(dict(training.network.state_dict())))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(("stop_at", "mixing"), [((1, 3), 0.4), ((2, 10), 0.0), ((3, 7), 0.0)])
def test_a_resumed_training_ends_where_an_unbroken_one_does(
    train: Data, validation: Data, tmp_path: Path, stop_at: tuple[int, int], mixing: float
) -> None:
    recipe = {
        "schedule": "plateau",
        "schedule_epochs": 1,
        "augmentation": {"crop": "centre", "rotation": 5.0, "mixup": mixing},
    }
    unbroken = small_training(train, validation, **recipe)
    expected = fit(unbroken, Watching())
    checkpoints = Checkpoints(tmp_path, "this one")
    stopped = small_training(train, validation, checkpoints=checkpoints, **recipe)
    with pytest.raises(Interrupted):
        fit(stopped, Watching(stop_at=stop_at))
    torch.manual_seed(99)
    resumed, watching = small_training(train, validation, checkpoints=checkpoints, **recipe), Watching()
    outcome = fit(resumed, watching)
    assert watching.steps[0] == ((stop_at[0], stop_at[1] + 1) if stop_at[1] < 10 else (stop_at[0] + 1, 1))
    assert weights_sha256(dict(resumed.network.state_dict())) == weights_sha256(
        dict(unbroken.network.state_dict())
    )
    assert [(r.loss, r.validation_loss) for r in outcome.history] == [
        (r.loss, r.validation_loss) for r in expected.history
    ]
    assert outcome.best_epoch == expected.best_epoch


def test_a_finished_training_is_not_run_again(train: Data, validation: Data, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "this one")
    first = small_training(train, validation, checkpoints=checkpoints, epochs=2)
    fit(first, Watching())
    again, watching = small_training(train, validation, checkpoints=checkpoints, epochs=2), Watching()
    fit(again, watching)
    assert not watching.steps
    assert weights_sha256(dict(again.network.state_dict())) == weights_sha256(dict(first.network.state_dict()))


def test_a_cancelled_training_can_keep_its_best(train: Data, validation: Data) -> None:
    training = small_training(train, validation, epochs=9)
    watching = Watching(stop_at=(3, 2), interruption=Interrupted("cancelled", keep_best=True))
    outcome = fit(training, watching)
    assert (outcome.stopped, len(outcome.history)) == ("cancelled", 2)
    logits = evaluate(training.network, training.validation.inputs)
    best = outcome.history[outcome.best_epoch - 1]
    assert np.mean(logits.argmax(1) == validation[1]) == best.validation_accuracy


def test_before_the_first_epoch_there_is_nothing_to_keep(train: Data, validation: Data) -> None:
    watching = Watching(stop_at=(1, 2), interruption=Interrupted("cancelled", keep_best=True))
    with pytest.raises(Interrupted):
        fit(small_training(train, validation), watching)


def test_training_ends_when_nothing_improves(train: Data, validation: Data) -> None:
    unlearnable = (validation[0], np.random.default_rng(0).permutation(validation[1]))
    training = small_training(train, unlearnable, epochs=50, patience=2)
    outcome = fit(training, Watching())
    assert outcome.stopped == "patience"
    assert len(outcome.history) == outcome.best_epoch + 2 < 50


def test_a_loss_that_is_no_number_ends_the_training_with_advice(train: Data, validation: Data) -> None:
    training = small_training(
        train, validation, optimizer="sgd", learning_rate=10.0, clip_norm=None, momentum=0.999
    )
    with torch.no_grad():
        training.network.head.weight.fill_(float("inf"))  # type: ignore[union-attr,operator]
    with pytest.raises(Diverged, match="lower the learning rate"):
        fit(training, Watching())


class Greedy(nn.Module):
    """A network that runs out of memory for more than `limit` images at once."""

    def __init__(self, inner: nn.Module, limit: int) -> None:
        super().__init__()
        self.inner, self.limit, self.sizes = inner, limit, list[int]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(x))
        if len(x) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        answer: torch.Tensor = self.inner(x)
        return answer


def test_a_shortage_of_memory_halves_the_micro_batch_and_keeps_the_step(train: Data, validation: Data) -> None:
    # Plain descent: AdamW turns the rounding of a vanishing gradient into a step of full size.
    spacious, tight = (small_training(train, validation, optimizer="sgd", label_smoothing=0.1) for _ in range(2))
    greedy = Greedy(tight.network, limit=5)
    tight.network = greedy
    inputs, targets = next(iter(spacious.batches.epoch(0, 0)))
    for training in (spacious, tight):
        training.trainable.train()
    expected, expected_right = take_step(spacious, inputs, targets)
    loss, right = take_step(tight, inputs, targets)
    assert greedy.sizes == [16, 8, 4, 4, 4, 4]
    assert tight.progress.micro_batch == 4
    assert (loss, right) == (pytest.approx(expected, rel=1e-5), expected_right)
    for a, b in zip(spacious.network.parameters(), greedy.inner.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_an_image_that_never_fits_is_said_to_be_too_large(train: Data, validation: Data) -> None:
    training = small_training(train, validation)
    training.network = Greedy(training.network, limit=0)
    with pytest.raises(OutOfMemory, match=r"one image of \(3, 32, 32\)"):
        fit(training, Watching())


def test_other_errors_are_not_taken_for_a_shortage(train: Data, validation: Data) -> None:
    training = small_training(train, validation)
    training.network = nn.Linear(3, 10)
    with pytest.raises(RuntimeError, match="shapes"):
        fit(training, Watching())


def test_auxiliary_classifiers_add_to_the_loss(train: Data, validation: Data) -> None:
    class Doubled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None, torch.Tensor]:
            logits = self.inner(x)
            return logits, None, logits

    plain, doubled = (small_training(train, validation, label_smoothing=0.0) for _ in range(2))
    doubled.network = Doubled(doubled.network)
    inputs, targets = next(iter(plain.batches.epoch(0, 0)))
    alone, _ = take_step(plain, inputs, targets)
    together, _ = take_step(doubled, inputs, targets)
    assert together == pytest.approx(1.3 * alone, rel=1e-5)


def test_class_weights_weigh_the_loss(train: Data, validation: Data) -> None:
    weighted = small_training(train, validation, label_smoothing=0.0)
    weighted.class_weights = torch.linspace(0.1, 2, 10)
    inputs, targets = next(iter(weighted.batches.epoch(0, 0)))
    with torch.no_grad():
        each = F.cross_entropy(weighted.network(inputs), targets, reduction="none")
    loss, _ = take_step(weighted, inputs, targets)
    assert loss == pytest.approx(float((each * weighted.class_weights[targets]).mean()), rel=1e-5)


def test_a_batch_that_does_not_fit_goes_through_in_even_parts(train: Data, validation: Data) -> None:
    """A last part of one image would be no batch to normalise by."""
    training = small_training(train, validation)
    sizes: list[int] = []
    training.network.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    inputs, targets = next(iter(training.batches.epoch(0, 0)))
    inputs, targets = torch.cat([inputs, inputs, inputs])[:33], torch.cat([targets, targets, targets])[:33]
    training.progress.micro_batch = 16
    take_step(training, inputs, targets)
    assert sizes == [11, 11, 11]


def test_a_training_goes_on_with_another_number_format(train: Data, validation: Data, tmp_path: Path) -> None:
    """As on a GPU that scales its losses, after a CPU that does not."""
    checkpoints = Checkpoints(tmp_path, "this one")
    with pytest.raises(Interrupted):
        fit(small_training(train, validation, checkpoints=checkpoints), Watching(stop_at=(1, 3)))
    resumed = small_training(train, validation, checkpoints=checkpoints)
    resumed.precision.scaler = torch.amp.GradScaler("cpu", enabled=True)
    assert len(fit(resumed, Watching()).history) == 3
