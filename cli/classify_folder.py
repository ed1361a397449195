"""A folder of images classified by one job of a running Fovea, its results in a file; what is cut off goes on.

What has been sent and which job works on it stand in a small file beside the output until that is written, so
that the same command goes on where the last one ended.
"""

import hashlib
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from cli.dataset_upload import create_dataset
from cli.errors import DatasetUnusable, Detached, FileNotWritten
from cli.job_progress import watch_job
from fovea_client import Fovea, Job, NotFound
from fovea_client.folder import is_litter
from system.files import write_whole


@dataclass(frozen=True)
class Asked:
    """What is to be classified, and how; `source` is a folder or an archive."""

    source: Path
    model: str
    top_k: int
    precision: str
    coverage: float | None = None
    on_unknown: Literal["mark", "refuse"] = "mark"


@dataclass(frozen=True)
class Begun:
    """How far a command came: what was sent as `dataset`, and the `job` that classifies it.

    `question` tells whether another command asks for the same.
    """

    question: str
    dataset: str
    job: str = ""


def classify_folder(client: Fovea, asked: Asked, output: Path, *, as_csv: bool, fresh: bool = False) -> Job:
    """Send the folder or archive, have it classified and write the results; the job as it ended.

    `fresh` begins anew whatever was begun. Raises DatasetUnusable, FileNotWritten, Detached, JobFailed, and what
    the client raises.
    """
    if not output.parent.is_dir():
        raise FileNotWritten(f"{output} cannot be written: there is no folder {output.parent}")
    if not asked.source.exists():
        raise DatasetUnusable(f"{asked.source}: no such folder or archive")
    question = _question(client.url, asked, output)
    memory = output.with_name(f".{output.name}.begun")
    begun = None if fresh else _recalled(client, memory, question)
    if begun:
        print(f"going on with {begun.job or begun.dataset}", file=sys.stderr)
    else:
        begun = _remember(memory, Begun(question, _send(client, asked.source)))
    if not begun.job:
        started = client.classify_many(
            model=asked.model,
            dataset=begun.dataset,
            top_k=asked.top_k,
            precision=asked.precision,
            coverage=asked.coverage,
            on_unknown=asked.on_unknown,
        )
        begun = _remember(memory, replace(begun, job=started.id))
    try:
        job = watch_job(client.jobs.get(begun.job), f"classifying {asked.source}")
    except Detached as detached:
        raise Detached(f"{detached}; the same command goes on with it") from None
    try:
        job.save_results(output, form="csv" if as_csv else "jsonl")
    except OSError as exc:
        raise FileNotWritten(f"{output} cannot be written: {exc.strerror or exc}") from exc
    memory.unlink(missing_ok=True)
    return job


def _send(client: Fovea, source: Path) -> str:
    """The id of a dataset of its images. Raises DatasetUnusable, and what `create_dataset` raises."""
    dataset, report = create_dataset(client, source, labels="none")
    if dataset.state != "ready":
        raise DatasetUnusable(f"{source}: {'; '.join(report.refusals) or 'the check refused it'}")
    return dataset.id


def _recalled(client: Fovea, memory: Path, question: str) -> Begun | None:
    """What was begun for the same, as far as it can be gone on with. Raises ApiError, Unreachable."""
    try:
        begun = Begun(**json.loads(memory.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    if begun.question != question:
        return None
    with suppress(NotFound):
        if begun.job and client.jobs.get(begun.job).state not in ("failed", "cancelled"):
            return begun
    with suppress(NotFound):
        if client.datasets.get(begun.dataset).state == "ready":
            return replace(begun, job="")
    return None


def _remember(memory: Path, begun: Begun) -> Begun:
    try:
        write_whole(memory, json.dumps(asdict(begun)))
    except OSError as exc:
        raise FileNotWritten(f"{memory} cannot be written: {exc.strerror or exc}") from exc
    return begun


def _question(url: str, asked: Asked, output: Path) -> str:
    """Another one where anything asked is another, or the name, size or time of any file of the source.

    What is hidden is not sent, and the output may lie among the images.
    """
    asking = [url, asked.model, str(asked.top_k), asked.precision, str(asked.coverage), asked.on_unknown, ""]
    digest = hashlib.sha256("\0".join(asking).encode())
    paths = [asked.source]
    if asked.source.is_dir():
        found = (Path(where, name) for where, _, names in os.walk(asked.source) for name in names)
        paths = sorted(path for path in found if not is_litter(path.name) and path.resolve() != output.resolve())
    for path in paths:
        with suppress(OSError):
            about = path.stat()
            named = f"{path.resolve()}\0{about.st_size}\0{about.st_mtime_ns}\0"
            digest.update(named.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
