"""Whether a Fovea kept its promises: what clients were told, against what it holds when it has come to rest."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chaos.ledger import CALM, Entry, Ledger, Window
from chaos.snapshot import OVER, Snapshot

from models.dataset.places import MANIFEST

LOSS, DOUBLE, WRONG_ANSWER = "loss", "double", "wrong answer"
# Not one of the three, and no less a fault.
WRONG_ERROR, DISAGREEMENT, LEFT_OVER, SLOW = "wrong error", "disagreement", "left over", "slow"

# Probabilities of one version for one image: another batch around it may add them up in another order.
TOLERANCE = 1e-4
MAKES_JOB = ("classify_async", "ingest", "finetune", "publish")
MAKES_VERSION = ("finetune", "publish")
# What a job may say whose worker, store or disk was taken away from it again and again.
JOB_MAY_FAIL_WITH = {"attempts_exhausted", "artifact_unusable"}
# What may be told at any time, for other clients do something at the same time, too.
ALWAYS = {"too_many_waiting"}
MAY_BE_TOLD = {
    "delete_version": {"in_use"},
    "delete_dataset": {"in_use"},
    "rollback": {"no_earlier_version"},
}


@dataclass(frozen=True)
class Finding:
    """`fault` is the one that was at work, or the last one before."""

    kind: str
    fault: str
    text: str


def verify(ledger: Ledger, snapshot: Snapshot, given: Sequence[tuple[str, int]]) -> list[Finding]:
    """Everything that is not as it should be. `given` are the versions that were there before."""
    return [
        *_accepted_jobs(ledger, snapshot),
        *_outcomes(ledger, snapshot),
        *_versions(ledger, snapshot, given),
        *_aliases(ledger, snapshot),
        *_datasets(ledger, snapshot),
        *_answers(ledger, snapshot),
        *_errors(ledger),
        *_leftovers(snapshot),
        *_slow(ledger),
    ]


def job_of(entry: Entry) -> str:
    """The job that an answer names: itself, or that of an upload."""
    return str(entry.body.get("job", entry.body)["id"])


def jobs_by_key(ledger: Ledger) -> dict[str, list[Entry]]:
    """The answers that each Idempotency-Key had."""
    found: dict[str, list[Entry]] = {}
    for entry in ledger.of(*MAKES_JOB):
        found.setdefault(str(entry.key), []).append(entry)
    return found


def _accepted_jobs(ledger: Ledger, snapshot: Snapshot) -> Iterator[Finding]:
    """Each key made one job, and nobody else made one but a fine-tune that says so."""
    told = {str(job) for job in map(_left_behind, snapshot.jobs.values()) if job}
    for job in told - set(snapshot.jobs):
        yield Finding(LOSS, CALM, f"{job} was left behind by a fine-tune and is not there")
    for key, entries in jobs_by_key(ledger).items():
        accepted = [entry for entry in entries if entry.is_accepted]
        jobs = {job_of(entry) for entry in accepted}
        fault = ledger.fault_at(entries[0].ended)
        if len(jobs) > 1:
            yield Finding(
                DOUBLE, fault, f"{entries[0].action} with key {key} made {len(jobs)} jobs: {sorted(jobs)}"
            )
        for job in jobs - set(snapshot.jobs):
            yield Finding(LOSS, fault, f"{entries[0].action}: {job} was accepted and is not there")
        told |= jobs
        if not jobs and entries[-1].is_unknown:
            yield Finding(
                LOSS, fault, f"{entries[0].action} with key {key} was never answered: {entries[-1].code}"
            )
    for job in set(snapshot.jobs) - told:
        row = snapshot.jobs[job]
        yield Finding(DOUBLE, CALM, f"{job} ({row['kind']}, {row['request']}) is a job that no client was told of")


def _outcomes(ledger: Ledger, snapshot: Snapshot) -> Iterator[Finding]:
    """Each job has ended, once, and stayed as it was when its end was first seen."""
    at = {job_of(entry): entry.ended for entry in ledger.of(*MAKES_JOB) if entry.is_accepted}
    for job, row in snapshot.jobs.items():
        fault = ledger.fault_at(at.get(job, 0.0))
        if row["state"] not in OVER:
            yield Finding(LOSS, fault, f"{job} ({row['kind']}) is still {row['state']}, attempt {row['attempt']}")
        elif snapshot.endings.get(job, 0) != 1:
            yield Finding(DOUBLE, fault, f"{job} ({row['kind']}) ended {snapshot.endings.get(job, 0)} times")
        seen = ledger.ended_jobs.get(job)
        if seen and (seen["state"], seen["result"]) != (row["state"], row["result"]):
            yield Finding(DOUBLE, fault, f"{job} was {seen['state']}, later {row['state']}, or its result changed")
        code = (row["error"] or {}).get("code")
        if row["state"] == "failed" and code not in JOB_MAY_FAIL_WITH | _of_deleted(ledger, row):
            yield Finding(WRONG_ERROR, fault, f"{job} ({row['kind']}) failed with {code}: {row['error']}")


def _left_behind(row: dict[str, Any]) -> str | None:
    found: str | None = (row["result"] or {}).get("variants_job")
    return found


def _of_deleted(ledger: Ledger, row: dict[str, Any]) -> set[str]:
    """What a job may say whose version was deleted before its variants were there."""
    named = (row["request"].get("model"), row["request"].get("version"))
    return (
        {"not_found"} if named in set().union(*_deleted(ledger, "delete_version", "model", "version")) else set()
    )


def _versions(ledger: Ledger, snapshot: Snapshot, given: Sequence[tuple[str, int]]) -> Iterator[Finding]:
    """Each job that made a version made one, and no version is nobody's; all of its files are as they were."""
    deleted, perhaps = _deleted(ledger, "delete_version", "model", "version")
    there = {(version.model, version.number): version for version in snapshot.versions}
    by_job = Counter(version.job for version in snapshot.versions if version.job)
    for job, row in snapshot.jobs.items():
        made = (
            row["result"] if row["kind"] in MAKES_VERSION and row["state"] in ("succeeded", "cancelled") else None
        )
        if made:
            name = (made["model"], made["version"])
            if name not in there and name not in deleted | perhaps:
                yield Finding(LOSS, CALM, f"{job} made {name[0]}:{name[1]}, which is not there")
            elif name in there and there[name].job != job:
                yield Finding(
                    DISAGREEMENT, CALM, f"{name[0]}:{name[1]} is of {there[name].job}, and {job} claims it"
                )
        elif by_job[job]:
            yield Finding(DOUBLE, CALM, f"{job} ({row['state']}) has no result, and there is a version of it")
        if by_job[job] > 1:
            yield Finding(DOUBLE, CALM, f"{job} made {by_job[job]} versions")
    for name, version in there.items():
        if version.job is None and name not in given:
            yield Finding(DOUBLE, CALM, f"{name[0]}:{name[1]} is of no job")
        elif version.job is not None and version.job not in snapshot.jobs:
            yield Finding(DOUBLE, CALM, f"{name[0]}:{name[1]} is of {version.job}, which is not there")
        for fault in version.faults:
            yield Finding(LOSS, CALM, f"{name[0]}:{name[1]}: {fault}")
        if name in deleted:
            yield Finding(LOSS, CALM, f"{name[0]}:{name[1]} was deleted and is there")
    for name in set(given) - set(there) - deleted - perhaps:
        yield Finding(LOSS, CALM, f"{name[0]}:{name[1]}, which was there at the beginning, is not any more")


def _aliases(ledger: Ledger, snapshot: Snapshot) -> Iterator[Finding]:
    """Each alias went where its moves that were accepted say, in their order; the last one may be unanswered."""
    moves: dict[str, list[Entry]] = {}
    for entry in ledger.of("promote", "rollback"):
        moves.setdefault(entry.what["alias"], []).append(entry)
    for alias, entries in moves.items():
        certain = [entry for entry in entries if entry.is_accepted]
        possible = [_history(certain)]
        if entries[-1].is_unknown:
            possible.append(_history([*certain, entries[-1]]))
        found = snapshot.aliases.get(("colours", alias), ())
        if found not in possible:
            kind = LOSS if len(found) < len(possible[0]) else DOUBLE
            text = f"{alias} has the history {found}; what was accepted makes {possible}"
            yield Finding(kind, ledger.fault_at(entries[-1].ended), text)
        standing = [number for number, is_rolled_back in found if not is_rolled_back]
        if standing and snapshot.points_at.get(("colours", alias)) != standing[-1]:
            yield Finding(DISAGREEMENT, CALM, f"{alias} is not where its history {found} says")
    promoted: dict[str, list[int]] = {}
    for row in snapshot.jobs.values():
        if row["kind"] in MAKES_VERSION and row["result"] and row["result"]["promoted"]:
            promoted.setdefault(row["result"]["model"], []).append(row["result"]["version"])
    names = {model for model, alias in snapshot.aliases if alias == "production"}
    for model in names | set(promoted):
        found_numbers = [number for number, _ in snapshot.aliases.get((model, "production"), ())]
        if sorted(found_numbers) != sorted(promoted.get(model, [])):
            text = f"{model}'s production went to {found_numbers}; jobs promoted {promoted.get(model, [])}"
            yield Finding(DISAGREEMENT, CALM, text)


def _history(moves: Sequence[Entry]) -> tuple[tuple[int, bool], ...]:
    """What a stack of these moves looks like, oldest first, with those that were rolled back."""
    history: list[tuple[int, bool]] = []
    for move in moves:
        standing = [place for place, (_, is_rolled_back) in enumerate(history) if not is_rolled_back]
        if move.action == "promote":
            if not standing or history[standing[-1]][0] != move.what["version"]:
                history.append((move.what["version"], False))
        elif standing:
            history[standing[-1]] = (history[standing[-1]][0], True)
    return tuple(history)


def _datasets(ledger: Ledger, snapshot: Snapshot) -> Iterator[Finding]:
    """Each upload's dataset is as its job says, and has its files."""
    deleted, perhaps = _deleted(ledger, "delete_dataset", "dataset")
    gone = {name for (name,) in deleted | perhaps}
    expected = {"succeeded": "ready", "failed": "refused", "cancelled": "refused"}
    for job, row in snapshot.jobs.items():
        if row["kind"] != "ingest" or row["state"] not in OVER:
            continue
        dataset = snapshot.datasets.get(row["request"]["dataset"])
        original = (row["result"] or {}).get("duplicate_of")
        if dataset is None:
            if not {row["request"]["dataset"], original} & gone:
                yield Finding(LOSS, CALM, f"the dataset of {job} ({row['state']}) is not there")
        elif original is not None:
            if dataset.duplicate_of != original:
                yield Finding(DISAGREEMENT, CALM, f"{dataset.id} leads to {dataset.duplicate_of}, not {original}")
        elif dataset.state != expected[row["state"]]:
            yield Finding(DISAGREEMENT, CALM, f"{dataset.id} is {dataset.state}, and {job} is {row['state']}")
    blobs = set(snapshot.blobs)
    for dataset in snapshot.datasets.values():
        if dataset.job not in snapshot.jobs:
            yield Finding(DOUBLE, CALM, f"{dataset.id} is of {dataset.job}, which is not there")
        if dataset.state == "ready" and f"{dataset.prefix}/{MANIFEST}" not in blobs:
            yield Finding(LOSS, CALM, f"{dataset.id} is ready and has no files")
    for (name,) in deleted & {(dataset,) for dataset in snapshot.datasets}:
        yield Finding(LOSS, CALM, f"{name} was deleted and is there")


def _answers(ledger: Ledger, snapshot: Snapshot) -> Iterator[Finding]:
    """One version says of one image always the same; and the given ones say the truth."""
    first: dict[tuple[str, int, str], dict[str, float]] = {}
    for entry, answer in _classifications(ledger, snapshot):
        what, fault = entry.what, ledger.fault_at(entry.ended)
        name = f"{what['model']}:{what['version']} of {what['image']}"
        if (answer["model"], answer["version"]) != (what["model"], what["version"]):
            yield Finding(WRONG_ANSWER, fault, f"{name}: {answer['model']}:{answer['version']} answered")
            continue
        classes = answer["predictions"][0]["classes"]
        if classes is None:
            yield Finding(WRONG_ERROR, fault, f"{name}: {answer['predictions'][0]['error']}")
            continue
        said = {found["label"]: float(found["probability"]) for found in classes}
        before = first.setdefault((what["model"], what["version"], what["image"]), said)
        if not _is_same(before, said):
            yield Finding(WRONG_ANSWER, fault, f"{name}: {said}, before {before}")
        truth = what["image"].partition("-")[0]
        if what["model"] == "colours" and classes[0]["label"] != truth:
            yield Finding(WRONG_ANSWER, fault, f"{name}: {classes[0]['label']}")


def _is_same(one: dict[str, float], other: dict[str, float]) -> bool:
    """The last of ten classes may be another where two are as likely."""
    return all(
        abs(one.get(label, probability) - other.get(label, probability)) <= TOLERANCE
        for label, probability in (one | other).items()
    )


def _classifications(ledger: Ledger, snapshot: Snapshot) -> Iterator[tuple[Entry, dict[str, Any]]]:
    for entry in ledger.of("classify"):
        if entry.is_accepted:
            yield entry, entry.body
    for entry in ledger.of("classify_async"):
        row = snapshot.jobs.get(job_of(entry)) if entry.is_accepted else None
        if row and row["state"] == "succeeded":
            yield entry, row["result"]


def _errors(ledger: Ledger) -> Iterator[Finding]:
    """A client was told of a fault only what belongs to it, only while it lasted, and of nothing else."""
    versions = _deleted(ledger, "delete_version", "model", "version")
    datasets = _deleted(ledger, "delete_dataset", "dataset")
    for entry in ledger.entries:
        if entry.is_accepted or entry.code in ALWAYS | MAY_BE_TOLD.get(entry.action, set()):
            continue
        if entry.code == "unknown_version" and _name(entry, "model", "version") in versions[0] | versions[1]:
            continue
        if entry.code == "unknown_dataset" and _name(entry, "dataset") in datasets[0] | datasets[1]:
            continue
        windows = [window for window in ledger.windows if _meets(entry, window)]
        if not any(entry.code in window.may_say for window in windows):
            when = " and ".join(window.fault for window in windows) or "no fault was at work"
            text = f"{entry.action} was told {entry.status} {entry.code} while {when}: {entry.body.get('detail')}"
            yield Finding(WRONG_ERROR, windows[-1].fault if windows else CALM, text)


def _meets(entry: Entry, window: Window) -> bool:
    """Begun before the fault was over, and ended after it had begun."""
    return entry.began <= window.over and entry.ended >= window.began


def _named(keys: Sequence[str], parent: str) -> set[str]:
    """The folders directly in that one."""
    return {key.split("/")[1] for key in keys if key.startswith(f"{parent}/")}


def _slow(ledger: Ledger) -> Iterator[Finding]:
    for window in ledger.windows:
        if window.recovery_s > window.limit_s:
            text = f"worked again after {window.recovery_s:.0f} s; {window.limit_s:.0f} are stated"
            yield Finding(SLOW, window.fault, text)


def _leftovers(snapshot: Snapshot) -> Iterator[Finding]:
    """Every blob is a version's or a ready dataset's; there is no temporary file, and no message waits."""
    owners = [version.artifact.rstrip("/") for version in snapshot.versions]
    owners += [dataset.prefix for dataset in snapshot.datasets.values() if dataset.state == "ready"]
    # What was sent for a job whose row could not be written stays for a day: the row might be on its way.
    owners += [f"jobs/{job}" for job in _named(snapshot.blobs, "jobs") - set(snapshot.jobs)]
    orphans = [key for key in snapshot.blobs if not any(key.startswith(f"{owner}/") for owner in owners)]
    for folder, count in Counter("/".join(key.split("/")[:3]) for key in orphans).items():
        yield Finding(LEFT_OVER, CALM, f"{count} blobs of nobody in {folder}")
    for stray in snapshot.strays:
        yield Finding(LEFT_OVER, CALM, stray)
    for key, count in snapshot.messages.items():
        if count and "_kombu" not in key:
            yield Finding(LEFT_OVER, CALM, f"{count} messages in {key}")


Names = set[tuple[Any, ...]]


def _deleted(ledger: Ledger, action: str, *fields: str) -> tuple[Names, Names]:
    """What was deleted for certain, and what may have been: the answer was lost."""
    entries = list(ledger.of(action))
    certain = {_name(entry, *fields) for entry in entries if entry.is_accepted}
    return certain, {_name(entry, *fields) for entry in entries if entry.is_unknown}


def _name(entry: Entry, *fields: str) -> tuple[Any, ...]:
    return tuple(entry.what.get(field) for field in fields)
