from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.database import Database
from storage.datasets import Dataset, DatasetShelf, DatasetState
from storage.errors import Conflict, InUse, InvalidName, NotFound
from storage.ids import new_id
from storage.jobs import JobLedger


@pytest.fixture
def shelf(database: Database) -> DatasetShelf:
    return DatasetShelf(database)


def ready(shelf: DatasetShelf, content_hash: str, name: str = "ants") -> Dataset:
    return shelf.add(name, prefix="datasets/x/", content_hash=content_hash, state=DatasetState.READY)


def test_a_dataset_is_checked_and_then_ready(shelf: DatasetShelf) -> None:
    dataset_id = new_id("ds")
    added = shelf.add("ants and bees", prefix=f"datasets/{dataset_id}/", dataset_id=dataset_id, job_id="job_1")
    assert added == shelf.get(dataset_id)
    assert (added.state, added.content_hash, added.job_id) == (DatasetState.CHECKING, None, "job_1")

    found = shelf.settle(
        dataset_id,
        DatasetState.READY,
        content_hash="sha256:1",
        labels=["ant", "bee"],
        counts={"train": {"ant": 123, "bee": 121}},
        report={"faults": []},
        size_bytes=2**33,
    )

    assert found == shelf.get(dataset_id) == shelf.find_by_hash("sha256:1")
    assert (found.state, found.labels, found.size_bytes) == (DatasetState.READY, ("ant", "bee"), 2**33)
    assert (found.counts, found.report) == ({"train": {"ant": 123, "bee": 121}}, {"faults": []})
    assert (found.name, found.prefix) == ("ants and bees", f"datasets/{dataset_id}/")


def test_a_refused_dataset_keeps_its_report_and_is_not_found_by_its_hash(shelf: DatasetShelf) -> None:
    added = shelf.add("ants", prefix="datasets/x/")
    report = {"faults": [{"file": "a.jpg", "reason": "truncated"}]}
    shelf.settle(added.id, DatasetState.REFUSED, content_hash="sha256:1", report=report)

    assert shelf.get(added.id).report == report
    assert shelf.find_by_hash("sha256:1") is None
    shelf.add("again", prefix="datasets/y/", content_hash="sha256:1", state=DatasetState.REFUSED)


def test_the_same_images_are_kept_once(shelf: DatasetShelf) -> None:
    first = ready(shelf, "sha256:1")
    with pytest.raises(Conflict, match="sha256:1"):
        ready(shelf, "sha256:1")
    second = shelf.add("other", prefix="datasets/y/")
    with pytest.raises(Conflict, match="sha256:1"):
        shelf.settle(second.id, DatasetState.READY, content_hash="sha256:1")

    assert shelf.find_by_hash("sha256:1") == first
    assert shelf.get(second.id).state == DatasetState.CHECKING


def test_of_many_who_bring_the_same_images_one_wins(shelf: DatasetShelf) -> None:
    def add(_: int) -> bool:
        try:
            ready(shelf, "sha256:1")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 1


def test_a_dataset_that_a_job_needs_stays(shelf: DatasetShelf, database: Database) -> None:
    ledger = JobLedger(database)
    dataset = ready(shelf, "sha256:1")
    job = ledger.create("finetune", {"dataset": dataset.id})
    with pytest.raises(InUse, match=job.id):
        shelf.delete(dataset.id)
    attempt = ledger.take(job.id, "w1", 60)
    assert attempt is not None
    with pytest.raises(InUse):
        shelf.delete(dataset.id)
    ledger.succeed(attempt, {})

    assert shelf.delete(dataset.id) == dataset
    with pytest.raises(NotFound):
        shelf.delete(dataset.id)
    assert ready(shelf, "sha256:1").id != dataset.id


def test_datasets_are_listed_newest_first(shelf: DatasetShelf) -> None:
    made = [shelf.add(name, prefix="datasets/x/").id for name in ("Ants", "bees", "100%", "wasps")]
    first = shelf.list(3)
    shelf.add("later", prefix="datasets/x/")
    second = shelf.list(3, first.next_cursor)

    assert [dataset.id for dataset in first.items + second.items] == made[::-1]
    assert second.next_cursor is None
    assert [dataset.name for dataset in shelf.list(10, search="ant").items] == ["Ants"]
    assert [dataset.name for dataset in shelf.list(10, search="%").items] == ["100%"]
    assert [dataset.id for dataset in shelf.list(10, search=made[1]).items] == [made[1]]


def test_a_dataset_nobody_added_is_not_found(shelf: DatasetShelf) -> None:
    for hostile in ("ds_0", "", "\x00", "\ud800"):
        with pytest.raises(NotFound):
            shelf.get(hostile)
        with pytest.raises(NotFound):
            shelf.delete(hostile)
        with pytest.raises(NotFound):
            shelf.settle(hostile, DatasetState.READY)
        assert shelf.find_by_hash(hostile) is None


def test_a_dataset_without_a_name_is_refused(shelf: DatasetShelf) -> None:
    for name in ("", " ", "a\x00b", "a\ud800", "a" * 201):
        with pytest.raises(InvalidName):
            shelf.add(name, prefix="datasets/x/")
