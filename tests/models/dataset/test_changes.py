"""Which image a change means, and what is left when all are made."""

import pytest

from models.dataset.changes import Changes, apply
from models.dataset.sample import Sample, SplitName

HASHES = {name: str(n) * 64 for n, name in enumerate(("set/ants/1.jpg", "set/ants/2.jpg", "set/bees/1.jpg"))}


def samples(split: SplitName | None = None) -> list[Sample]:
    return [
        Sample(sha256, name.split("/")[1], split, name, 8, 8, "RGB", "0" * 16) for name, sha256 in HASHES.items()
    ]


@pytest.mark.parametrize("name", ["set/ants/1.jpg", "ants/1.jpg", "0" * 64])
def test_an_image_is_named_by_its_path_the_end_of_it_or_its_sha256(name: str) -> None:
    changed = apply(Changes(relabel=((name, "bees"),)), samples())
    assert not changed.faults
    assert {sample.name: sample.label for sample in changed.samples}["set/ants/1.jpg"] == "bees"
    assert changed.describe() == {
        "relabelled": [{"from": "ants", "to": "bees", "images": 1}],
        "removed": {},
        "moved": [],
    }


def test_a_whole_path_means_its_image_also_where_others_end_so() -> None:
    ending = Sample("9" * 64, "ants", None, "1.jpg", 8, 8, "RGB", "0" * 16)
    changed = apply(Changes(remove=("1.jpg",)), [*samples(), ending])
    assert not changed.faults
    assert ending not in changed.samples


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        (Changes(remove=("s/1.jpg",)), "unknown_image", "no image of that sha256 or path"),
        (Changes(remove=("a" * 64,)), "unknown_image", "no image of that sha256"),
        (Changes(remove=("1.jpg",)), "ambiguous_image", "it means 2 images, 'set/ants/1.jpg'"),
        (Changes(remove=("2.jpg", "ants/2.jpg")), "named_twice", "'2.jpg' it is to be removed already"),
        (
            Changes(relabel=(("2.jpg", "bees"),), remove=("2.jpg",)),
            "named_twice",
            "it is to be relabelled already",
        ),
        (Changes(relabel=(("2.jpg", "bees"), ("ants/2.jpg", "x"))), "named_twice", "to be relabelled already"),
        (Changes(move=(("2.jpg", "val"),)), "no_such_split", "the dataset has no such split; it has none"),
    ],
)
def test_what_cannot_be_changed_is_told(changes: Changes, code: str, reason: str) -> None:
    (fault,) = apply(changes, samples()).faults
    assert (fault.code, fault.severity) == (code, "error")
    assert reason in fault.reason


def test_an_image_may_be_relabelled_and_moved_at_once() -> None:
    given = [*samples("train"), Sample("9" * 64, "ants", "val", "v.jpg", 8, 8, "RGB", "0" * 16)]
    changed = apply(Changes(relabel=(("2.jpg", "bees"),), move=(("2.jpg", "val"),)), given)
    assert not changed.faults
    (sample,) = (sample for sample in changed.samples if sample.name.endswith("2.jpg"))
    assert (sample.label, sample.split) == ("bees", "val")


def test_what_is_so_already_is_told_and_no_fault() -> None:
    (fault,) = apply(Changes(relabel=(("2.jpg", "ants"),)), samples()).faults
    assert (fault.code, fault.severity) == ("unchanged", "warning")
