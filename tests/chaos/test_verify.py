"""The verification of a chaos run can fail: each fault that it is there for, made by hand, is found."""

import json
from dataclasses import replace
from typing import Any

import pytest
from chaos.ledger import Entry, Ledger, Window
from chaos.report import as_json, make_run, merged, table
from chaos.snapshot import DatasetState, Snapshot, VersionState
from chaos.verify import DISAGREEMENT, DOUBLE, LEFT_OVER, LOSS, SLOW, WRONG_ANSWER, WRONG_ERROR, Finding, verify

from models.dataset.places import MANIFEST

GIVEN = [("colours", 1)]
RED = [{"label": "red", "probability": 0.9}, {"label": "blue", "probability": 0.1}]


def entry(
    action: str, status: int = 200, code: str = "", at: float = 1.0, key: str | None = None, **what: Any
) -> Entry:
    return Entry(action, what, key, at, at + 0.1, status, code, {})


def classified(at: float = 1.0, classes: Any = RED, version: int = 1) -> Entry:
    asked = entry("classify", at=at, model="colours", version=1, image="red-1")
    return replace(asked, body={"model": "colours", "version": version, "predictions": [{"classes": classes}]})


def accepted(action: str, job: str, key: str) -> Entry:
    return replace(entry(action, 202, key=key), body={"id": job})


def row(job: str, kind: str, state: str = "succeeded", result: Any = None, **request: Any) -> dict[str, Any]:
    error = {"code": "attempts_exhausted"} if state == "failed" else None
    return {
        "id": job,
        "kind": kind,
        "state": state,
        "request": request,
        "result": result,
        "error": error,
        "attempt": 1,
    }


@pytest.fixture
def ledger() -> Ledger:
    """One of everything, while the broker was killed once."""
    return Ledger(
        entries=[
            classified(),
            accepted("finetune", "job_train", "k1"),
            accepted("ingest", "job_ingest", "k2"),
            entry("promote", alias="stage-0", version=1),
            entry("rollback", 409, "no_earlier_version", alias="stage-0"),
            entry("classify", 503, "no_worker", at=11.0, model="colours", version=1, image="red-1"),
        ],
        windows=[Window("kill broker", 10.0, 10.5, 12.0, frozenset({"no_worker"}))],
    )


@pytest.fixture
def snapshot() -> Snapshot:
    """What that ledger leaves."""
    made = {"model": "lenet-a", "version": 1, "promoted": True}
    return Snapshot(
        jobs={
            "job_train": row("job_train", "finetune", result=made),
            "job_ingest": row("job_ingest", "ingest", result={"dataset": "ds_1"}, dataset="ds_1"),
        },
        endings={"job_train": 1, "job_ingest": 1},
        versions=[
            VersionState("colours", 1, "models/colours/1", None),
            VersionState("lenet-a", 1, "models/lenet-a/1", "job_train"),
        ],
        aliases={("colours", "stage-0"): ((1, False),), ("lenet-a", "production"): ((1, False),)},
        points_at={("colours", "stage-0"): 1, ("lenet-a", "production"): 1},
        datasets={"ds_1": DatasetState("ds_1", "ready", "datasets/ds_1", "job_ingest", None)},
        blobs=("models/colours/1/model.onnx", "models/lenet-a/1/model.onnx", f"datasets/ds_1/{MANIFEST}"),
    )


def kinds(ledger: Ledger, snapshot: Snapshot) -> list[str]:
    return [finding.kind for finding in verify(ledger, snapshot, GIVEN)]


def test_a_run_without_a_fault_of_ours_is_clean(ledger: Ledger, snapshot: Snapshot) -> None:
    assert verify(ledger, snapshot, GIVEN) == []


def test_an_accepted_job_that_is_gone_is_a_loss(ledger: Ledger, snapshot: Snapshot) -> None:
    ledger.entries.append(accepted("classify_async", "job_gone", "k3"))
    assert kinds(ledger, snapshot) == [LOSS]


def test_a_job_that_never_ends_is_a_loss(ledger: Ledger, snapshot: Snapshot) -> None:
    ledger.entries.append(accepted("classify_async", "job_slow", "k3"))
    snapshot.jobs["job_slow"] = row("job_slow", "classify", "queued")
    assert kinds(ledger, snapshot) == [LOSS]


def test_a_request_that_nobody_ever_answers_is_a_loss(ledger: Ledger, snapshot: Snapshot) -> None:
    ledger.entries.append(entry("finetune", 503, "no_worker", at=11.0, key="k3"))
    assert kinds(ledger, snapshot) == [LOSS]


def test_two_jobs_of_one_key_are_a_double(ledger: Ledger, snapshot: Snapshot) -> None:
    ledger.entries.append(accepted("ingest", "job_again", "k2"))
    snapshot.jobs["job_again"] = row("job_again", "ingest", "cancelled", dataset="ds_2")
    snapshot.endings["job_again"] = 1
    snapshot.datasets["ds_2"] = DatasetState("ds_2", "refused", "datasets/ds_2", "job_again", None)
    assert kinds(ledger, snapshot) == [DOUBLE]


def test_a_job_that_nobody_was_told_of_is_a_double(ledger: Ledger, snapshot: Snapshot) -> None:
    snapshot.jobs["job_ghost"] = row("job_ghost", "classify")
    snapshot.endings["job_ghost"] = 1
    assert kinds(ledger, snapshot) == [DOUBLE]


def leave_behind(snapshot: Snapshot, **row_of_it: Any) -> None:
    snapshot.jobs["job_train"]["result"]["variants_job"] = "job_left"
    if row_of_it:
        snapshot.jobs["job_left"] = row("job_left", "variants", model="lenet-a", version=1, **row_of_it)
        snapshot.endings["job_left"] = 1


def test_a_job_that_a_fine_tune_left_behind_is_there_and_ends(ledger: Ledger, snapshot: Snapshot) -> None:
    leave_behind(snapshot)
    assert kinds(ledger, snapshot) == [LOSS]
    leave_behind(snapshot, state="queued")
    assert LOSS in kinds(ledger, snapshot)
    leave_behind(snapshot, state="succeeded")
    assert kinds(ledger, snapshot) == []


def test_variants_may_fail_where_their_version_was_deleted(ledger: Ledger, snapshot: Snapshot) -> None:
    leave_behind(snapshot, state="failed")
    snapshot.jobs["job_left"]["error"] = {"code": "not_found"}
    assert kinds(ledger, snapshot) == [WRONG_ERROR]
    ledger.entries.append(entry("delete_version", model="lenet-a", version=1))
    assert WRONG_ERROR not in kinds(ledger, snapshot)


def test_a_job_with_two_ends_is_a_double(ledger: Ledger, snapshot: Snapshot) -> None:
    snapshot.endings["job_train"] = 2
    assert kinds(ledger, snapshot) == [DOUBLE]


def test_a_job_whose_end_changed_after_it_was_seen_is_a_double(ledger: Ledger, snapshot: Snapshot) -> None:
    ledger.note_ended({"id": "job_ingest", "state": "failed", "result": None})
    assert kinds(ledger, snapshot) == [DOUBLE]


def test_a_second_version_of_a_job_is_a_double(ledger: Ledger, snapshot: Snapshot) -> None:
    snapshot.versions.append(VersionState("lenet-a", 2, "models/lenet-a/2", "job_train"))
    assert DOUBLE in kinds(ledger, snapshot)


def test_a_version_of_a_job_that_failed_is_a_double(ledger: Ledger, snapshot: Snapshot) -> None:
    snapshot.jobs["job_train"] = row("job_train", "finetune", "failed")
    assert DOUBLE in kinds(ledger, snapshot)


@pytest.mark.parametrize("place", [0, 1])
def test_a_version_that_is_gone_is_a_loss(ledger: Ledger, snapshot: Snapshot, place: int) -> None:
    del snapshot.versions[place]
    assert LOSS in kinds(ledger, snapshot)


def test_a_file_with_another_sha256_is_a_loss(ledger: Ledger, snapshot: Snapshot) -> None:
    snapshot.versions[0] = replace(snapshot.versions[0], faults=("model.onnx has another sha256",))
    assert kinds(ledger, snapshot) == [LOSS]


def test_an_accepted_promotion_that_did_not_happen_is_a_loss(ledger: Ledger, snapshot: Snapshot) -> None:
    ledger.entries.append(entry("promote", alias="stage-0", version=2))
    assert kinds(ledger, snapshot) == [LOSS]


def test_a_promotion_that_nobody_asked_for_is_a_double(ledger: Ledger, snapshot: Snapshot) -> None:
    snapshot.aliases["colours", "stage-0"] = ((1, False), (2, False), (1, False))
    assert kinds(ledger, snapshot) == [DOUBLE]


@pytest.mark.parametrize("history", [((1, False),), ((1, False), (2, False))])
def test_a_promotion_without_an_answer_may_have_happened_or_not(
    ledger: Ledger, snapshot: Snapshot, history: tuple[tuple[int, bool], ...]
) -> None:
    ledger.entries.append(entry("promote", 503, "no_worker", at=11.0, alias="stage-0", version=2))
    snapshot.aliases["colours", "stage-0"] = history
    snapshot.points_at["colours", "stage-0"] = history[-1][0]
    assert kinds(ledger, snapshot) == []


def test_an_alias_elsewhere_than_its_history_says_is_a_disagreement(ledger: Ledger, snapshot: Snapshot) -> None:
    snapshot.points_at["colours", "stage-0"] = 3
    assert kinds(ledger, snapshot) == [DISAGREEMENT]


def test_a_job_that_promoted_without_an_alias_is_a_disagreement(ledger: Ledger, snapshot: Snapshot) -> None:
    del snapshot.aliases["lenet-a", "production"]
    assert kinds(ledger, snapshot) == [DISAGREEMENT]


def test_a_dataset_that_is_not_as_its_job_says_is_a_disagreement(ledger: Ledger, snapshot: Snapshot) -> None:
    snapshot.datasets["ds_1"] = replace(snapshot.datasets["ds_1"], state="checking")
    assert DISAGREEMENT in kinds(ledger, snapshot)


def test_a_dataset_without_its_files_is_a_loss(ledger: Ledger, snapshot: Snapshot) -> None:
    snapshot.blobs = snapshot.blobs[:2]
    assert kinds(ledger, snapshot) == [LOSS]


@pytest.mark.parametrize(
    "answer",
    [
        classified(2.0, [{"label": "red", "probability": 0.8}, {"label": "blue", "probability": 0.2}]),
        classified(2.0, version=2),
        classified(0.5, [{"label": "blue", "probability": 0.9}, {"label": "red", "probability": 0.1}]),
    ],
)
def test_an_answer_that_differs_or_is_of_another_version_or_untrue_is_wrong(
    ledger: Ledger, snapshot: Snapshot, answer: Entry
) -> None:
    ledger.entries.append(answer)
    assert WRONG_ANSWER in kinds(ledger, snapshot)


def test_the_answer_of_a_job_counts_as_one_at_once_does(ledger: Ledger, snapshot: Snapshot) -> None:
    asked = accepted("classify_async", "job_c", "k3")
    ledger.entries.append(replace(asked, what={"model": "colours", "version": 1, "image": "red-1"}))
    said = [{"classes": [{"label": "green", "probability": 0.9}]}]
    result = {"model": "colours", "version": 1, "predictions": said}
    snapshot.jobs["job_c"] = row("job_c", "classify", result=result)
    snapshot.endings["job_c"] = 1
    assert WRONG_ANSWER in kinds(ledger, snapshot)


@pytest.mark.parametrize(
    ("status", "code", "at"),
    [
        (500, "internal", 11.0),
        (503, "no_worker", 20.0),
        (503, "database_unavailable", 11.0),
        (404, "unknown_model", 11.0),
    ],
)
def test_an_error_that_does_not_belong_to_the_fault_at_work_is_wrong(
    ledger: Ledger, snapshot: Snapshot, status: int, code: str, at: float
) -> None:
    ledger.entries.append(entry("classify", status, code, at=at, model="colours", version=1, image="red-1"))
    assert kinds(ledger, snapshot) == [WRONG_ERROR]


def test_a_job_that_failed_for_an_unforeseen_reason_is_a_wrong_error(ledger: Ledger, snapshot: Snapshot) -> None:
    snapshot.jobs["job_ingest"] |= {"state": "failed", "error": {"code": "internal"}}
    snapshot.datasets["ds_1"] = replace(snapshot.datasets["ds_1"], state="refused")
    snapshot.blobs = snapshot.blobs[:2]
    assert kinds(ledger, snapshot) == [WRONG_ERROR]


def test_blobs_files_and_messages_of_nobody_are_left_over(ledger: Ledger, snapshot: Snapshot) -> None:
    snapshot.blobs = (*snapshot.blobs, "jobs/job_train/upload", "jobs/job_never_made/upload")
    snapshot.strays = ("data/uploads/scratch-1",)
    snapshot.messages = {"fovea:queue:bulk": 1, "fovea:queue:_kombu.binding.bulk": 1}
    assert kinds(ledger, snapshot) == [LEFT_OVER] * 3


def test_a_recovery_beyond_its_limit_is_slow(ledger: Ledger, snapshot: Snapshot) -> None:
    ledger.windows[0] = replace(ledger.windows[0], ready=80.0, limit_s=60.0)
    assert kinds(ledger, snapshot) == [SLOW]


def test_the_table_counts_what_was_found_beside_its_fault(ledger: Ledger, snapshot: Snapshot) -> None:
    found = [Finding(LOSS, "kill broker", "x"), Finding(DOUBLE, "calm", "y")]
    run = make_run(1, "up", 1.0, ledger, snapshot, found)
    whole = merged([run, run])
    assert (whole["kill broker"].times, whole["kill broker"].losses, whole["calm"].doubles) == (2, 2, 2)
    assert whole["kill broker"].slowest_recovery_s == 1.5
    assert whole["kill broker"].told == {"no_worker": 2}
    assert json.loads(json.dumps(as_json([run])))["faults"]["kill broker"]["told"] == {"no_worker": 1}
    assert "2 no_worker" in next(line for line in table(whole).splitlines() if line.startswith("kill broker"))
