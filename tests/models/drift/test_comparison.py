"""From answers to a verdict: what does not differ raises no alarm, what differs does and is named."""

import json
from dataclasses import replace

import numpy as np
import pytest

from models.drift.comparison import FEWEST_IMAGES, Comparison, compare
from models.drift.describe import MOST_CLASSES, describe
from models.drift.reference import Reference, reference_of
from models.drift.sketch import OtherBins, Sketch
from models.drift.sketcher import FOLDED, Sketcher, fold, sketcher_of

NUMBERS = 256
Answers = tuple[np.ndarray, np.ndarray]


def answers(
    rng: np.random.Generator, count: int, classes: int, *, of: list[int] | None = None, blur: float = 1.0,
    shift: float = 0.0,
) -> Answers:  # fmt: skip
    """Probabilities and embeddings of a linear network: a cloud for each class, wider where there is `blur`."""
    centres = np.random.default_rng(0).normal(size=(classes, NUMBERS))
    targets = rng.choice(of or range(classes), count)
    embeddings = np.maximum(0, centres[targets] / blur + rng.normal(0, 1.5, (count, NUMBERS)) + shift)
    logits = embeddings @ centres.T / 8
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), embeddings.astype(np.float32)


def labels(classes: int) -> list[str]:
    return [f"class {n}" for n in range(classes)]


def sketch(reference: Reference, given: Answers, batch: int = 16) -> Sketch:
    sketcher = Sketcher(reference, interval_s=0)
    for start in range(0, len(given[0]), batch):
        part = slice(start, start + batch)
        sketcher.add({"probabilities": given[0][part], "embedding": given[1][part]})
    found = sketcher.take()
    assert found
    return found


def compared(
    rng: np.random.Generator, validation: int, served: int, classes: int = 3, **changes: object
) -> Comparison:
    reference = describe(*answers(rng, validation, classes), labels(classes))
    return compare(reference, sketch(reference, answers(rng, served, classes, **changes)))


@pytest.mark.parametrize(("validation", "served", "classes"), [(153, 200, 2), (40, 1000, 3), (300, 300, 12)])
def test_where_nothing_differs_there_are_no_more_false_alarms_than_the_level(
    validation: int, served: int, classes: int
) -> None:
    rng = np.random.default_rng(validation)
    found = [compared(rng, validation, served, classes) for _ in range(150)]
    assert sum(bool(each.drifted) for each in found) <= 4  # 1.5 are expected of the tests alone
    significant = [
        min(each.adjusted_p_value for each in (*one.quantities, one.embedding) if each) < 0.01 for one in found
    ]
    assert sum(significant) <= 6


def test_the_distance_of_means_is_as_probable_as_it_says() -> None:
    rng = np.random.default_rng(8)
    p_values = np.array([compared(rng, 153, 250).embedding.p_value for _ in range(300)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p_values < level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 300) + 0.02)


def test_one_class_alone_is_named_and_taken_for_what_it_may_be() -> None:
    found = compared(np.random.default_rng(1), 153, FEWEST_IMAGES, of=[1])
    by_label = {each.label: each for each in found.quantities if each.name == "probability"}
    assert by_label["class 1"].drifted
    more, less = by_label["class 1"].text, by_label["class 0"].text
    assert more.startswith("more class 1 than among the validation images: 100 % have a probability above")
    assert less.startswith("less class 0 than among the validation images: 0 % have a probability above")


def test_images_that_it_is_less_sure_of_are_a_drift() -> None:
    found = compared(np.random.default_rng(2), 153, 300, blur=3.0)
    top = next(each for each in found.quantities if each.name == "top_probability")
    assert top.drifted
    assert "less sure than before" in top.text
    assert not found.is_of_frequencies


def test_what_looks_otherwise_lies_elsewhere() -> None:
    found = compared(np.random.default_rng(2), 153, 300, shift=2.0)
    assert found.embedding
    assert found.embedding.drifted
    assert "the embeddings lie elsewhere" in found.embedding.text


def test_of_very_many_images_a_difference_that_does_not_matter_is_none() -> None:
    found = compared(np.random.default_rng(4), 3000, 60_000, blur=1.02)
    assert min(each.adjusted_p_value for each in found.quantities) < 0.01
    assert found.drifted == ()


def test_however_the_images_came_in_batches_the_sketch_is_the_same() -> None:
    rng = np.random.default_rng(5)
    given = answers(rng, 100, 3)
    reference = describe(*given, labels(3))
    whole, single = sketch(reference, given, 100), sketch(reference, given, 1)
    assert (whole.images, whole.counts) == (single.images, single.counts)
    assert whole.embedding == pytest.approx(single.embedding, abs=1e-4)
    assert whole.counts == tuple(each.counts for each in reference.quantities)


def test_of_itself_it_is_no_drift() -> None:
    given = answers(np.random.default_rng(6), 100, 3)
    reference = describe(*given, labels(3))
    found = compare(reference, sketch(reference, given))
    assert found.distance == 0
    assert found.embedding
    assert found.embedding.distance == pytest.approx(0, abs=1e-3)


def test_of_many_classes_the_most_frequent_ones_are_compared() -> None:
    given = answers(np.random.default_rng(7), 200, 40, of=list(range(20, 33)))
    reference = describe(*given, labels(40))
    places = [each.place for each in reference.quantities if each.place is not None]
    assert len(places) == MOST_CLASSES
    assert set(places) <= set(range(20, 33))
    assert len(json.dumps(reference.to_dict())) < 8_000


def test_an_image_with_a_number_that_is_none_is_left_out() -> None:
    probabilities, embeddings = answers(np.random.default_rng(8), 50, 3)
    reference = describe(probabilities, embeddings, labels(3))
    embeddings[2, :2] = np.inf, -np.inf
    embeddings[3] = np.nan
    probabilities[4] = np.inf
    found = sketch(reference, (probabilities, embeddings))
    assert found.images == 47
    assert np.isfinite(found.embedding).all()


def test_folding_keeps_distances_about_as_they_are() -> None:
    rng = np.random.default_rng(9)
    rows = rng.normal(size=(200, 1280)).astype(np.float32)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    folded = fold(rows)
    assert folded.shape == (200, FOLDED)
    before = ((unit[:100] - unit[100:]) ** 2).sum(axis=1)
    after = ((folded[:100] - folded[100:]) ** 2).sum(axis=1)
    assert after.mean() == pytest.approx(before.mean(), rel=0.1)
    assert fold(np.zeros((1, 7), np.float32)).tolist() == [[0.0] * FOLDED]


def test_a_reference_survives_json_and_what_is_none_is_told() -> None:
    reference = describe(*answers(np.random.default_rng(10), 60, 3), labels(3))
    finding = json.loads(json.dumps({"reference": reference.to_dict()}))
    assert reference_of({"findings": {"drift": finding}}) == reference
    broken = [
        {"reference": {**finding["reference"], "images": 61}},
        {"reference": {**finding["reference"], "quantities": [{}]}},
        {"reference": {**finding["reference"], "embedding": 5}},
        {"reference": None},
        {"images": 3, "missing": "why"},
    ]
    assert [reference_of({"findings": {"drift": each}}) for each in broken] == [None] * len(broken)
    assert reference_of({}) is None
    with pytest.raises(ValueError, match="no reference"):
        Reference.from_dict(broken[0]["reference"])


def test_a_network_that_a_reference_is_not_of_is_not_looked_at() -> None:
    reference = describe(*answers(np.random.default_rng(11), 60, 3), labels(3))
    outputs = ("logits", "probabilities", "embedding")
    assert sketcher_of(reference, 3, outputs)
    assert sketcher_of(reference, 2, outputs) is None
    assert sketcher_of(reference, 3, outputs[:2]) is None
    assert sketcher_of(replace(reference, embedding=None), 3, outputs[:2])
    assert sketcher_of(None, 3, outputs) is None


def test_a_sketch_is_taken_once_in_a_while() -> None:
    probabilities, embeddings = answers(np.random.default_rng(12), 60, 3)
    sketcher = Sketcher(describe(probabilities, embeddings, labels(3)), interval_s=60)
    assert sketcher.take() is None
    sketcher.add({"probabilities": probabilities, "embedding": embeddings})
    first = sketcher.take()
    assert first
    assert first.images == 60
    sketcher.add({"probabilities": probabilities, "embedding": embeddings})
    assert sketcher.take() is None
    sketcher.interval_s = 0
    second = sketcher.take()
    assert second
    assert second.images == 60


def test_a_sketch_of_other_bins_is_not_compared() -> None:
    rng = np.random.default_rng(13)
    first, second = (describe(*answers(rng, 60, classes), labels(classes)) for classes in (2, 3))
    with pytest.raises(OtherBins):
        compare(first, sketch(second, answers(rng, 50, 3)))
