"""A job's progress in a few words, and as a fraction."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fovea_client.jobs import Job


def describe(job: "Job[Any]", *, brief: bool = False) -> str:
    """A job's state in a few words: `training, epoch 3 of 20, accuracy 97.8 %, 1:05 left`.

    In `brief` without what changes with every step.
    """
    return ", ".join(words_of(job, brief=brief))


def fraction_done(job: "Job[Any]") -> float | None:
    """How much of the present phase is done, 0 to 1; None when nobody can say."""
    progress = job.progress
    if job.is_over:
        return 1.0
    if progress.get("fraction") is not None:
        return float(progress["fraction"])
    if progress.get("epochs"):
        epoch = float(progress.get("epoch", 0))
        if progress.get("steps"):
            epoch += float(progress.get("step", 0)) / float(progress["steps"]) - 1
        return epoch / float(progress["epochs"])
    for done, total in (("done", "total"), ("done_bytes", "total_bytes")):
        if progress.get(done) is not None and progress.get(total):
            return float(progress[done]) / float(progress[total])
    return None


def words_of(job: "Job[Any]", *, brief: bool = False) -> list[str]:
    """What `describe` puts together."""
    if job.state != "running":
        return [job.state]
    progress = job.progress
    words = [str(progress.get("phase") or job.state)]
    if words == ["trying"] and progress.get("precision"):
        words = [f"trying {progress['precision']}"]
    if progress.get("done") is not None:
        of_all = f" of {progress['total']}" if progress.get("total") else ""
        words.append(f"{progress['done']}{of_all}")
    if progress.get("epochs"):
        words.append(f"epoch {progress.get('epoch', 0)} of {progress['epochs']}")
    return words if brief else [*words, *_measured(progress)]


def percent(fraction: float) -> str:
    """A number from 0 to 1 as `97.8 %`."""
    return f"{100 * fraction:.1f} %"


def duration(seconds: float) -> str:
    """`0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _measured(progress: Mapping[str, Any]) -> list[str]:
    words = []
    if progress.get("downloading"):
        words.append(f"downloading {progress['downloading']}")
    if progress.get("loss") is not None:
        words.append(f"loss {progress['loss']:.3f}")
    if progress.get("accuracy") is not None:
        words.append(f"accuracy {percent(progress['accuracy'])}")
    if progress.get("validation_accuracy") is not None:
        words.append(f"validation {percent(progress['validation_accuracy'])}")
    if progress.get("images_per_second") is not None:
        words.append(f"{progress['images_per_second']:.0f} images/s")
    if progress.get("eta_s") is not None:
        words.append(f"{duration(progress['eta_s'])} left")
    return words
