"""The regression against scikit-learn's, and that cross-validation decides by images that were left out."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from models.training.interruption import Interrupted
from models.training.linear import L2_GRID, fit_head, fit_logistic_regression


def blobs(
    images: int, *, features: int = 6, classes: int = 3, spread: float = 2.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, features, generator=torch.Generator().manual_seed(7))
    targets = torch.arange(images) % classes
    return centres[targets] + spread * torch.randn(images, features, generator=generator), targets


def names(count: int) -> list[str]:
    return [f"{i:04d}" for i in range(count)]


def solved(features: Tensor, targets: Tensor, l2: float, center: Tensor) -> tuple[Tensor, Tensor]:
    count = len(targets)
    evenly = torch.full((count,), 1 / count, dtype=torch.float64)
    return fit_logistic_regression(
        features.double(), targets, evenly, l2=l2, center=(center.double(), torch.zeros(len(center)).double())
    )


@pytest.mark.parametrize("l2", [1.0, 0.01])
def test_the_optimum_is_scikit_learns(l2: float) -> None:
    features, targets = blobs(120)
    weight, bias = solved(features, targets, l2, torch.zeros(3, 6))
    reference = LogisticRegression(C=1 / (120 * l2), tol=1e-10, max_iter=10_000).fit(features, targets)
    assert np.allclose(weight, reference.coef_, atol=1e-4)
    ours = features.double().numpy() @ weight.numpy().T + bias.numpy()
    assert np.allclose(
        ours - ours.mean(1, keepdims=True), _centred(reference.decision_function(features)), atol=1e-3
    )


def _centred(logits: np.ndarray) -> np.ndarray:
    return logits - logits.mean(1, keepdims=True)


def test_the_optimum_stays_near_the_head_it_is_given() -> None:
    features, targets = blobs(60)
    head = torch.ones(3, 6)
    distances = [float((solved(features, targets, l2, head)[0] - head).norm()) for l2 in (100.0, 1.0, 0.01)]
    assert distances == sorted(distances)
    assert distances[0] < 0.05


def test_a_head_generalises_and_is_made_for_the_unscaled_features() -> None:
    scale = torch.tensor([1.0, 10, 100, 0.1, 5, 1]) + 0.0
    features, targets = blobs(300)
    unseen, truth = blobs(600, seed=1)
    head = fit_head((features * scale)[None], targets, 3, seed=0, groups=names(300))
    accuracy = float((((unseen * scale) @ head.weight.T + head.bias).argmax(1) == truth).float().mean())
    bayes = LogisticRegression().fit(*blobs(20_000, seed=2)).score(unseen, truth)
    assert accuracy > bayes - 0.04
    assert head.weight.dtype == torch.float32


def test_noise_asks_for_a_strong_penalty_and_clean_data_for_a_weak_one() -> None:
    chosen = []
    for spread in (3.0, 0.3):
        features, targets = blobs(150, features=40, spread=spread)
        head = fit_head(features[None], targets, 3, seed=0, groups=names(150))
        assert len(head.trials) == len(L2_GRID)
        chosen.append(head.l2)
    assert chosen[0] >= 0.1 > chosen[1]


def test_augmented_views_are_used_only_if_they_help() -> None:
    features, targets = blobs(90, spread=1.0)
    misleading = torch.stack([features, features.roll(1, 0), features.roll(2, 0)])
    head = fit_head(misleading, targets, 3, seed=0, groups=names(90))
    assert not head.augmented
    assert len(head.trials) == 2 * len(L2_GRID)


def test_the_same_image_is_never_on_both_sides_of_a_fold() -> None:
    """Every image is there twice, and its label is noise: only by peeking could one do better than chance."""
    features, _ = blobs(80, features=60)
    targets = torch.randint(2, (80,), generator=torch.Generator().manual_seed(1))
    twice = fit_head(features.repeat(2, 1)[None], targets.repeat(2), 2, seed=0, groups=names(80) * 2)
    assert max(trial.accuracy for trial in twice.trials) < 0.68
    peeking = fit_head(features.repeat(2, 1)[None], targets.repeat(2), 2, seed=0, groups=names(160))
    assert max(trial.accuracy for trial in peeking.trials) > 0.9


def test_a_class_with_one_image_gets_by_without_cross_validation() -> None:
    features, targets = torch.randn(3, 4), torch.tensor([0, 0, 1])
    head = fit_head(features[None], targets, 2, seed=0, groups=names(3))
    assert head.trials == ()
    assert torch.isfinite(head.weight).all()


def test_class_weights_favour_the_rare_class() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.tensor([0] * 95 + [1] * 10)
    features = torch.randn(105, 1, generator=generator) + 1.0 * targets[:, None]
    plain = fit_head(features[None], targets, 2, seed=0, groups=names(105))
    weighted = fit_head(
        features[None], targets, 2, seed=0, groups=names(105), class_weights=torch.tensor([105 / 190, 105 / 20])
    )
    shares = [float(((features @ h.weight.T + h.bias).argmax(1) == 1).float().mean()) for h in (plain, weighted)]
    assert shares[0] < shares[1]


def test_the_same_seed_gives_the_same_head() -> None:
    features, targets = blobs(90)
    one, other = (fit_head(features[None], targets, 3, seed=4, groups=names(90)) for _ in range(2))
    assert torch.equal(one.weight, other.weight)


def test_it_can_be_stopped_between_fits() -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Interrupted("cancelled")

    features, targets = blobs(90)
    with pytest.raises(Interrupted):
        fit_head(features[None], targets, 3, seed=4, groups=names(90), on_progress=stop)


def test_each_image_is_told_by_a_head_that_did_not_learn_from_it() -> None:
    features, targets = blobs(90)
    found = fit_head(features[None], targets, 3, seed=0, groups=names(90))
    assert found.held_out is not None
    assert found.held_out.shape == (90, 3)
    best = min(found.trials, key=lambda trial: trial.loss)
    assert float((found.held_out.argmax(1) == targets).float().mean()) == pytest.approx(best.accuracy)
    # Whatever the label of an image is, the others are told the same of it: it has no say in its own logits.
    turned = targets.clone()
    turned[17] = (turned[17] + 1) % 3
    features_of_one = features[17:18].repeat(2, 1)
    first, second = (
        fit_head(torch.cat([features, features_of_one])[None], torch.cat([labels, labels[17:18].repeat(2)]), 3,
                 seed=0, groups=[*names(90), "0017", "0017"], l2_grid=(1.0,)).held_out
        for labels in (targets, turned)
    )  # fmt: skip
    assert first is not None
    assert second is not None
    assert torch.allclose(first[90], first[91])


def test_where_one_fold_validates_nobody_was_left_out_unless_every_fold_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.training.linear.AFFORDABLE_FOLDS", 10)
    features, targets = blobs(60)
    assert fit_head(features[None], targets, 3, seed=0, groups=names(60)).held_out is None
    whole = fit_head(features[None], targets, 3, seed=0, groups=names(60), l2_grid=(1.0,), every_fold=True)
    assert whole.held_out is not None
    assert len(whole.trials) == 1
