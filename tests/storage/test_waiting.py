"""Jobs that wait for a dataset's check: who takes them when, and what becomes of them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from support.past import let_pass

from storage.database import Database, open_database
from storage.datasets import Dataset, DatasetRegistry, DatasetState
from storage.errors import InUse, TooManyJobs
from storage.ids import new_id
from storage.job import Job, JobState
from storage.job_ledger import JobLedger
from storage.owner import Owner
from storage.tables import DatasetRow

PHASE = {"phase": "waiting for the dataset"}


@pytest.fixture
def ledger(database: Database) -> JobLedger:
    return JobLedger(database)


@pytest.fixture
def datasets(database: Database) -> DatasetRegistry:
    return DatasetRegistry(database)


@pytest.fixture
def checked(ledger: JobLedger, datasets: DatasetRegistry) -> tuple[Dataset, Job]:
    """A dataset that is being checked, and the job that does it."""
    return being_checked(ledger, datasets)


def being_checked(ledger: JobLedger, datasets: DatasetRegistry) -> tuple[Dataset, Job]:
    job_id = new_id("job")
    dataset = datasets.add("colours", prefix="datasets/x", job_id=job_id)
    return dataset, ledger.create("ingest", {"dataset": dataset.id}, job_id=job_id)


def finetune(ledger: JobLedger, dataset: Dataset, owner: Owner | None = None) -> Job:
    return ledger.create("finetune", {"model": "m", "dataset": dataset.id, "seed": 3}, owner=owner)


def end_check(
    ledger: JobLedger,
    datasets: DatasetRegistry,
    checked: tuple[Dataset, Job],
    state: DatasetState,
    digest: str = "a",
) -> None:
    dataset, ingest = checked
    attempt = ledger.take(ingest.id, "w", 30)
    assert attempt
    with ledger.transaction(attempt) as transaction:
        datasets.record_check(
            dataset.id,
            state,
            content_hash=digest,
            labels=["red"],
            report={"refusals": ["No picture in it."]} if state is DatasetState.REFUSED else {},
            within=transaction,
        )
        if state is DatasetState.READY:
            ledger.succeed(attempt, {}, within=transaction)
        else:
            ledger.fail(attempt, "dataset_refused", "No picture in it.", within=transaction)


def test_it_waits_for_the_check_and_is_released_after_it(
    ledger: JobLedger, datasets: DatasetRegistry, checked: tuple[Dataset, Job]
) -> None:
    job = finetune(ledger, checked[0])
    assert checked[1].waits_for is None
    assert (job.state, job.waits_for, job.progress) == (JobState.QUEUED, checked[0].id, PHASE)
    assert [event.kind for event in ledger.events(job.id)] == ["state", "progress"]
    assert ledger.take(job.id, "w", 30) is None
    assert ledger.release_waiting() == []
    assert [found.id for found in ledger.to_requeue(-1)] == [checked[1].id]
    assert not ledger.has_waiting(["finetune"], -1)
    assert {count.kind: count.oldest_s for count in ledger.count()}["finetune"] == 0

    end_check(ledger, datasets, checked, DatasetState.READY)
    (released,) = ledger.release_waiting()

    assert (released.id, released.waits_for, released.progress) == (job.id, None, {})
    assert released == ledger.get(job.id)
    assert released.request == {"model": "m", "dataset": checked[0].id, "seed": 3}
    assert ledger.release_waiting() == []
    assert [event.id for event in ledger.events(job.id)] == [1, 2, 3]
    assert [found.id for found in ledger.to_requeue(-1)] == [job.id]
    assert ledger.take(job.id, "w", 30) is not None


def test_a_refused_dataset_fails_it(
    ledger: JobLedger, datasets: DatasetRegistry, checked: tuple[Dataset, Job]
) -> None:
    job = finetune(ledger, checked[0])
    end_check(ledger, datasets, checked, DatasetState.REFUSED)
    assert ledger.release_waiting() == []
    failed = ledger.get(job.id)
    assert failed.state is JobState.FAILED
    assert failed.finished_at is not None
    assert failed.error == {
        "code": "dataset_refused", "detail": f"Dataset {checked[0].id} was refused: No picture in it.",
    }  # fmt: skip
    assert ledger.events(job.id)[-1].data == {"state": "failed", "attempt": 0, "error": failed.error}


def test_a_check_that_is_cancelled_or_goes_silent_fails_it(ledger: JobLedger, datasets: DatasetRegistry) -> None:
    cancelled, silent = (being_checked(ledger, datasets) for _ in range(2))
    jobs = [finetune(ledger, dataset) for dataset, _ in (cancelled, silent)]
    ledger.request_cancel(cancelled[1].id)
    for _ in range(3):
        ledger.take(silent[1].id, "w", -1)
    ledger.to_requeue(60)
    ledger.release_waiting()
    first, second = (ledger.get(job.id).error or {} for job in jobs)
    assert (first["code"], second["code"]) == ("dataset_refused", "dataset_refused")
    assert first["detail"].endswith("The check was cancelled.")
    assert "went silent" in second["detail"]


def test_a_duplicate_is_followed_and_what_it_leads_to_is_kept(
    ledger: JobLedger, datasets: DatasetRegistry, checked: tuple[Dataset, Job]
) -> None:
    original = datasets.add(
        "first", prefix="datasets/y", content_hash="a", state=DatasetState.READY, labels=["red"]
    )
    job = finetune(ledger, checked[0])
    attempt = ledger.take(checked[1].id, "w", 30)
    assert attempt
    with ledger.transaction(attempt) as transaction:
        datasets.record_duplicate(checked[0].id, original.id, within=transaction)
        ledger.succeed(attempt, {}, within=transaction)
    for needed in (original.id, checked[0].id):
        with pytest.raises(InUse, match=job.id):
            datasets.delete(needed)
    (released,) = ledger.release_waiting()
    assert released.request["dataset"] == original.id
    with pytest.raises(InUse, match=job.id):
        datasets.delete(original.id)


def test_a_dataset_that_is_gone_fails_it(
    ledger: JobLedger, database: Database, checked: tuple[Dataset, Job]
) -> None:
    job = finetune(ledger, checked[0])
    with database.session() as session:
        row = session.get(DatasetRow, checked[0].id)
        session.delete(row)
    ledger.release_waiting()
    assert (ledger.get(job.id).error or {})["code"] == "not_found"


def test_what_it_waits_for_is_not_deleted_and_its_own_end_changes_nothing_of_that(
    ledger: JobLedger, datasets: DatasetRegistry, checked: tuple[Dataset, Job]
) -> None:
    job = finetune(ledger, checked[0])
    ledger.request_cancel(job.id)
    assert ledger.get(job.id).state is JobState.CANCELLED
    assert datasets.get(checked[0].id).state is DatasetState.CHECKING
    other = finetune(ledger, checked[0])
    ledger.request_cancel(checked[1].id)
    with pytest.raises(InUse, match=other.id):
        datasets.delete(checked[0].id)
    assert ledger.release_waiting() == []


def test_one_that_waits_does_not_keep_a_dataset_from_being_given_up(
    ledger: JobLedger, datasets: DatasetRegistry, database: Database
) -> None:
    """Else each would wait for the other for ever."""
    dataset = datasets.add("left", prefix="datasets/x", job_id="job_of_a_release_that_is_gone")
    job = finetune(ledger, dataset)
    let_pass(database, 90_000, DatasetRow)
    assert datasets.refuse_abandoned(timedelta(days=1)) == 1
    ledger.release_waiting()
    assert (ledger.get(job.id).error or {})["code"] == "dataset_refused"


def test_it_counts_for_its_owner(ledger: JobLedger, checked: tuple[Dataset, Job]) -> None:
    owner = Owner("k", most_waiting=1)
    finetune(ledger, checked[0], owner)
    with pytest.raises(TooManyJobs):
        finetune(ledger, checked[0], owner)


def test_one_reconciler_of_several_releases_it(
    ledger: JobLedger, datasets: DatasetRegistry, checked: tuple[Dataset, Job], url: str
) -> None:
    jobs = {finetune(ledger, checked[0]).id for _ in range(20)}
    end_check(ledger, datasets, checked, DatasetState.READY)
    others = [open_database(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        released = [job.id for jobs in pool.map(lambda d: JobLedger(d).release_waiting(), others) for job in jobs]
    for other in others:
        other.close()
    released += [job.id for job in ledger.release_waiting()]
    assert sorted(released) == sorted(jobs)
