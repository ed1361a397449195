"""How much one key may have: counted where it is added, so that two at once do not both find room."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from storage.database import Database
from storage.datasets import DatasetRegistry, DatasetState
from storage.errors import StorageQuota, TooManyJobs
from storage.job_ledger import JobLedger
from storage.keys import KeyRing
from storage.owner import Owner


@pytest.fixture
def key(database: Database) -> str:
    return KeyRing(database).create("laptop", ["train"])[0].prefix


def test_jobs_that_wait_are_counted_for_their_key_alone(database: Database, key: str) -> None:
    ledger = JobLedger(database)
    two = Owner(key, most_waiting=2)
    first, _ = (ledger.create("publish", {}, owner=two) for _ in range(2))

    with pytest.raises(TooManyJobs, match="2 jobs of this key are waiting already, and it may have 2"):
        ledger.create("publish", {}, owner=two)

    ledger.create("publish", {}, owner=Owner("another", most_waiting=1))
    ledger.create("publish", {}, owner=Owner(key))
    ledger.create("publish", {})
    ledger.request_cancel(first.id)
    assert ledger.take(ledger.create("publish", {}, owner=Owner(key, most_waiting=3)).id, "worker", 30)
    ledger.create("publish", {}, owner=Owner(key, most_waiting=3))


def test_jobs_made_at_once_do_not_pass_the_limit_together(database: Database, key: str) -> None:
    ledger = JobLedger(database)

    def create(_: int) -> Any:
        try:
            return ledger.create("publish", {}, owner=Owner(key, most_waiting=3))
        except TooManyJobs as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(create, range(16)))

    assert sum(isinstance(each, TooManyJobs) for each in made) == 13
    assert len(ledger.list(100).items) == 3


def test_bytes_are_those_of_the_keys_datasets_that_were_not_refused(database: Database, key: str) -> None:
    datasets = DatasetRegistry(database)
    hundred = Owner(key, most_bytes=100)

    def add(size: int, owner: Owner = hundred) -> str:
        with database.session() as session:
            dataset = datasets.add("Ants", prefix="datasets/x", size_bytes=size, owner=owner, within=session)
            datasets.check_quota(owner, within=session)
        return dataset.id

    first = add(70)
    add(1000, Owner("another"))
    with pytest.raises(StorageQuota, match="would have 101 bytes, and it may store 100"):
        add(31)
    with pytest.raises(StorageQuota):
        datasets.check_quota(hundred, added=31)
    datasets.check_quota(hundred, added=30)
    # What it has is what the check found, and of a refused one nothing stays.
    datasets.record_check(first, DatasetState.READY, content_hash="1", size_bytes=20)
    second = add(80)
    datasets.record_check(second, DatasetState.REFUSED)
    datasets.delete(first)
    add(100)
    assert len(datasets.list(10).items) == 3


def test_shared_bytes_count_once_for_their_owner_also_when_their_dataset_is_gone(
    database: Database, key: str
) -> None:
    datasets, owner = DatasetRegistry(database), Owner(key, most_bytes=1000)
    first = datasets.add(
        "first", prefix="datasets/x/a", state=DatasetState.READY, content_hash="1", size_bytes=900, owner=owner
    )
    second = datasets.add("second", prefix="datasets/y", parent=first, owner=owner)
    ready = {"content_hash": "2", "size_bytes": 50, "prefix": "datasets/y/a"}
    datasets.record_check(second.id, DatasetState.READY, sources=(first.prefix,), **ready)  # type: ignore[arg-type]

    datasets.check_quota(owner, added=50)
    datasets.delete(first.id)
    datasets.check_quota(owner, added=50)
    with pytest.raises(StorageQuota, match="1001 bytes"):
        datasets.check_quota(owner, added=51)
    datasets.check_quota(Owner("another", most_bytes=1), added=1)
    datasets.kept.settled(datasets.kept.list()[0], 100)
    datasets.check_quota(owner, added=850)
