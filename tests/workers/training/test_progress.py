"""Progress says where a job is, how fast it goes and what is left; written now and then, not at every step."""

from collections.abc import Iterator

import pytest
from support.trainer import QUICK, Trainer

from models.training.progress import EpochRecord, StepRecord
from storage.errors import DatabaseUnavailable
from storage.job_ledger import Job, JobLedger
from workers.jobs.attempt import RunningAttempt
from workers.jobs.lease import Lease
from workers.training.progress import ProgressReporter


@pytest.fixture
def job(trainer: Trainer) -> Job:
    return trainer.create(**QUICK)


@pytest.fixture
def reporter(trainer: Trainer, job: Job, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProgressReporter]:
    monkeypatch.setattr("workers.training.progress.INTERVAL_S", 0.0)
    attempt = trainer.take(job)
    with Lease(trainer.ledger, attempt, 30) as lease:
        yield ProgressReporter(RunningAttempt(trainer.ledger, attempt, lease))


def step(step: int, epoch: int = 2) -> StepRecord:
    return StepRecord(epoch=epoch, epochs=4, step=step, steps=10, images=16, loss=0.5, accuracy=0.25)


def test_training_says_epoch_speed_and_time_left(
    trainer: Trainer, job: Job, reporter: ProgressReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1000))
    monkeypatch.setattr("workers.training.progress.time.monotonic", lambda: float(next(clock)))
    reporter.remember(strategy="full")
    reporter.phase("training")
    for number in range(1, 5):
        reporter.step(step(number))
    progress = trainer.progress(job)
    assert (progress["phase"], progress["epoch"], progress["epochs"]) == ("training", 2, 4)
    assert (progress["step"], progress["steps"], progress["loss"], progress["accuracy"]) == (4, 10, 0.5, 0.25)
    assert (progress["strategy"], progress["attempt"]) == ("full", 1)
    # Three steps since the first took as many ticks as the clock gave; 26 of 40 are left.
    per_step = progress["eta_s"] / 26
    assert per_step == pytest.approx(64 / progress["images_per_second"] / 3, rel=0.05)


def test_an_epochs_end_adds_the_validation(trainer: Trainer, job: Job, reporter: ProgressReporter) -> None:
    reporter.phase("training")
    reporter.step(step(10))
    reporter.epoch(EpochRecord(2, 0.4, 0.8, 0.5, 0.7, 1e-3, 3.0))
    progress = trainer.progress(job)
    assert (progress["validation_loss"], progress["validation_accuracy"], progress["epoch"]) == (0.5, 0.7, 2)


def test_phases_that_count_say_how_far(trainer: Trainer, job: Job, reporter: ProgressReporter) -> None:
    reporter.phase("extracting")
    reporter.progress(30, 120)
    progress = trainer.progress(job)
    assert (progress["phase"], progress["done"], progress["total"]) == ("extracting", 30, 120)
    assert progress["eta_s"] >= 0


def test_the_seconds_of_each_phase_are_kept(reporter: ProgressReporter) -> None:
    reporter.phase("preparing")
    reporter.phase("training")
    reporter.end_phase()
    reporter.end_phase()
    assert list(reporter.seconds) == ["starting", "preparing", "training"]


def test_a_running_job_says_where_its_seconds_went(trainer: Trainer, job: Job) -> None:
    attempt = trainer.take(job)
    with Lease(trainer.ledger, attempt, 30) as lease:
        reporter = ProgressReporter(RunningAttempt(trainer.ledger, attempt, lease), starting_s=2.5)
        reporter.phase("extracting")
        assert trainer.progress(job)["seconds"] == {"starting": 2.5}
        reporter.phase("training")
        # A phase that comes twice is one in the account.
        first = reporter.seconds["extracting"]
        reporter.phase("extracting")
        reporter.phase("evaluating")
    spent = trainer.progress(job)["seconds"]
    assert list(spent) == ["starting", "extracting", "training"]
    assert spent["extracting"] > first


def test_it_is_written_at_most_every_half_second(
    trainer: Trainer, job: Job, reporter: ProgressReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.training.progress.INTERVAL_S", 3600.0)
    reporter.phase("training")
    before = len(trainer.ledger.events(job.id))
    for number in range(1, 11):
        reporter.step(step(number))
    assert len(trainer.ledger.events(job.id)) == before


def test_a_database_that_is_away_does_not_end_the_training(
    reporter: ProgressReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(JobLedger, "report_progress", away)
    reporter.phase("training")
    reporter.step(step(1))
