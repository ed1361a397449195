from concurrent.futures import ThreadPoolExecutor

import pytest

from storage.database import Database
from storage.datasets import Dataset, DatasetRegistry, DatasetState
from storage.errors import Conflict, InUse, InvalidName, NotFound
from storage.ids import new_id
from storage.job_ledger import JobLedger


@pytest.fixture
def datasets(database: Database) -> DatasetRegistry:
    return DatasetRegistry(database)


def ready(datasets: DatasetRegistry, content_hash: str, name: str = "ants") -> Dataset:
    return datasets.add(name, prefix="datasets/x/", content_hash=content_hash, state=DatasetState.READY)


def test_a_dataset_is_checked_and_then_ready(datasets: DatasetRegistry) -> None:
    dataset_id = new_id("ds")
    added = datasets.add("ants and bees", prefix=f"datasets/{dataset_id}/", dataset_id=dataset_id, job_id="job_1")
    assert added == datasets.get(dataset_id)
    assert (added.state, added.content_hash, added.job_id) == (DatasetState.CHECKING, None, "job_1")

    found = datasets.record_check(
        dataset_id,
        DatasetState.READY,
        content_hash="sha256:1",
        labels=["ant", "bee"],
        counts={"train": {"ant": 123, "bee": 121}},
        report={"faults": []},
        size_bytes=2**33,
    )

    assert found == datasets.get(dataset_id) == datasets.find_by_hash("sha256:1")
    assert (found.state, found.labels, found.size_bytes) == (DatasetState.READY, ("ant", "bee"), 2**33)
    assert (found.counts, found.report) == ({"train": {"ant": 123, "bee": 121}}, {"faults": []})
    assert (found.name, found.prefix) == ("ants and bees", f"datasets/{dataset_id}/")


def test_a_refused_dataset_keeps_its_report_and_is_not_found_by_its_hash(datasets: DatasetRegistry) -> None:
    added = datasets.add("ants", prefix="datasets/x/")
    report = {"faults": [{"file": "a.jpg", "reason": "truncated"}]}
    datasets.record_check(added.id, DatasetState.REFUSED, content_hash="sha256:1", report=report)

    assert datasets.get(added.id).report == report
    assert datasets.find_by_hash("sha256:1") is None
    datasets.add("again", prefix="datasets/y/", content_hash="sha256:1", state=DatasetState.REFUSED)


def test_the_same_images_are_kept_once(datasets: DatasetRegistry) -> None:
    first = ready(datasets, "sha256:1")
    with pytest.raises(Conflict, match="sha256:1"):
        ready(datasets, "sha256:1")
    second = datasets.add("other", prefix="datasets/y/")
    with pytest.raises(Conflict, match="sha256:1"):
        datasets.record_check(second.id, DatasetState.READY, content_hash="sha256:1")

    assert datasets.find_by_hash("sha256:1") == first
    assert datasets.get(second.id).state == DatasetState.CHECKING


def test_of_many_who_bring_the_same_images_one_wins(datasets: DatasetRegistry) -> None:
    def add(_: int) -> bool:
        try:
            ready(datasets, "sha256:1")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 1


def test_what_was_uploaded_twice_is_one_dataset_with_two_ids(datasets: DatasetRegistry) -> None:
    first = ready(datasets, "sha256:1")
    second = datasets.add("ants again", prefix="datasets/y/")
    recorded = datasets.record_duplicate(second.id, first.id)

    assert (recorded.id, recorded.state, recorded.duplicate_of) == (second.id, DatasetState.REFUSED, first.id)
    assert datasets.get(second.id) == first
    assert [dataset.id for dataset in datasets.list(10).items] == [first.id]


def test_a_duplicate_is_deleted_alone_and_the_original_with_its_duplicates(datasets: DatasetRegistry) -> None:
    first = ready(datasets, "sha256:1")
    second, third = (datasets.add("again", prefix=f"datasets/{n}/") for n in "yz")
    for duplicate in (second, third):
        datasets.record_duplicate(duplicate.id, first.id)

    assert datasets.delete(second.id).prefix == "datasets/y/"
    assert datasets.get(third.id) == first
    with pytest.raises(NotFound):
        datasets.get(second.id)
    datasets.delete(first.id)
    with pytest.raises(NotFound):
        datasets.get(third.id)


def test_the_check_of_a_dataset_may_say_where_its_files_lie_now(datasets: DatasetRegistry) -> None:
    added = datasets.add("ants", prefix="datasets/x")
    found = datasets.record_check(added.id, DatasetState.READY, prefix="datasets/x/0123abcd")
    assert datasets.get(added.id).prefix == found.prefix == "datasets/x/0123abcd"


def test_a_dataset_that_a_job_needs_stays(datasets: DatasetRegistry, database: Database) -> None:
    ledger = JobLedger(database)
    dataset = ready(datasets, "sha256:1")
    job = ledger.create("finetune", {"dataset": dataset.id})
    with pytest.raises(InUse, match=job.id):
        datasets.delete(dataset.id)
    attempt = ledger.take(job.id, "w1", 60)
    assert attempt is not None
    with pytest.raises(InUse):
        datasets.delete(dataset.id)
    ledger.succeed(attempt, {})

    assert datasets.delete(dataset.id) == dataset
    with pytest.raises(NotFound):
        datasets.delete(dataset.id)
    assert ready(datasets, "sha256:1").id != dataset.id


def test_datasets_are_listed_newest_first(datasets: DatasetRegistry) -> None:
    made = [datasets.add(name, prefix="datasets/x/").id for name in ("Ants", "bees", "100%", "wasps")]
    first = datasets.list(3)
    datasets.add("later", prefix="datasets/x/")
    second = datasets.list(3, first.next_cursor)

    assert [dataset.id for dataset in first.items + second.items] == made[::-1]
    assert second.next_cursor is None
    assert [dataset.name for dataset in datasets.list(10, search="ant").items] == ["Ants"]
    assert [dataset.name for dataset in datasets.list(10, search="%").items] == ["100%"]
    assert [dataset.id for dataset in datasets.list(10, search=made[1]).items] == [made[1]]


def test_a_dataset_nobody_added_is_not_found(datasets: DatasetRegistry) -> None:
    for hostile in ("ds_0", "", "\x00", "\ud800"):
        with pytest.raises(NotFound):
            datasets.get(hostile)
        with pytest.raises(NotFound):
            datasets.delete(hostile)
        with pytest.raises(NotFound):
            datasets.record_check(hostile, DatasetState.READY)
        assert datasets.find_by_hash(hostile) is None


def test_a_dataset_without_a_name_is_refused(datasets: DatasetRegistry) -> None:
    for name in ("", " ", "a\x00b", "a\ud800", "a" * 201):
        with pytest.raises(InvalidName):
            datasets.add(name, prefix="datasets/x/")


def revised(datasets: DatasetRegistry, parent: Dataset, content_hash: str, *sources: str) -> Dataset:
    dataset_id = new_id("ds")
    datasets.add("ants", prefix=f"datasets/{dataset_id}", dataset_id=dataset_id, parent=parent, job_id="job_1")
    prefix = f"datasets/{dataset_id}/a"
    return datasets.record_check(
        dataset_id, DatasetState.READY, content_hash=content_hash, prefix=prefix, sources=sources, size_bytes=10
    )


def test_a_revision_knows_its_line_and_what_it_shares(datasets: DatasetRegistry) -> None:
    first = ready(datasets, "sha256:1")
    second = revised(datasets, first, "sha256:2", first.prefix)
    third = revised(datasets, second, "sha256:3", second.prefix, first.prefix)
    ready(datasets, "sha256:4")

    assert (first.parent, first.root, first.revision, first.sources) == (None, first.id, 1, ())
    assert (second.parent, second.root, second.revision) == (first.id, first.id, 2)
    assert (third.parent, third.root, third.revision) == (second.id, first.id, 3)
    assert datasets.get(third.id).sources == tuple(sorted((first.prefix, second.prefix)))
    assert datasets.list(10, family_of=first.id).items == (third, second, first)


def test_a_revision_that_is_made_holds_all_that_its_parent_has_and_keeps_it(datasets: DatasetRegistry) -> None:
    first = ready(datasets, "sha256:1")
    second = revised(datasets, first, "sha256:2", first.prefix)
    making = datasets.add("ants", prefix="datasets/y/", parent=second, job_id="job_2")
    assert making.sources == tuple(sorted((second.prefix, first.prefix)))
    with pytest.raises(InUse, match="job_2"):
        datasets.delete(second.id)
    datasets.record_check(making.id, DatasetState.REFUSED)
    datasets.delete(second.id)
    with pytest.raises(NotFound):
        datasets.add("ants", prefix="datasets/z/", parent=second)


def test_what_others_share_is_kept_until_the_last_of_them_is_deleted(datasets: DatasetRegistry) -> None:
    first = ready(datasets, "sha256:1")
    second = revised(datasets, first, "sha256:2", first.prefix)
    third = revised(datasets, second, "sha256:3", first.prefix)

    datasets.delete(first.id)
    (kept,) = datasets.kept.list()
    assert (kept.prefix, kept.changed_at is None) == (first.prefix, False)
    assert datasets.kept.users(first.prefix) == {second.prefix: "ready", third.prefix: "ready"}
    datasets.kept.settled(kept, 5)
    assert datasets.kept.list()[0].changed_at is None

    datasets.delete(second.id)
    (changed,) = datasets.kept.list()
    assert changed.changed_at is not None
    datasets.delete(third.id)
    # Who looked before that has not seen it.
    datasets.kept.settled(changed, 5)
    (again,) = datasets.kept.list()
    assert again.changed_at is not None
    assert datasets.kept.users(first.prefix) == {}
    datasets.kept.forget(again)
    assert datasets.kept.list() == ()


def test_a_duplicate_of_another_shares_nothing(datasets: DatasetRegistry) -> None:
    first = ready(datasets, "sha256:1")
    same = datasets.add("ants", prefix="datasets/y/", parent=first)
    assert datasets.record_duplicate(same.id, first.id).sources == ()
    datasets.delete(first.id)
    assert datasets.kept.list() == ()
