"""A folder or an archive on its way to a running Fovea, which checks it. Knows nothing of what the check finds."""

import contextlib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from cli.dataset_changes import Changes
from cli.errors import DatasetUnusable
from cli.job_progress import show_until_over
from cli.options import FaultPolicy
from cli.transfer import Transfer
from fovea_client import Dataset, Fovea, Report
from fovea_client.datasets import Labels, title_of
from models.dataset.pack import pack

_DATASET_ID = re.compile(r"ds_[0-9A-Za-z]+")


def create_dataset(
    client: Fovea,
    source: Path,
    name: str | None = None,
    on_fault: FaultPolicy = "skip",
    labels: Labels = "folders",
) -> tuple[Dataset, Report]:
    """Send and have checked; returns the dataset, `ready` or `refused`, with its report.

    With `labels="none"` it is of images to be classified, wherever they lie.

    Where a dataset has the same images already, that one is returned. A folder is packed into a temporary archive
    of its size first (TMPDIR says where). Raises DatasetUnusable where there is nothing to send, what packing
    raises, what the client raises, JobFailed and Detached.
    """
    name = name or title_of(source)
    with _archive(source) as archive:
        accepted = _send(client, archive, name, on_fault, labels)
    return _checked(client, accepted, f"checking {name}", "the same images are there already as {}")


def _checked(client: Fovea, accepted: Dataset, title: str, same: str) -> tuple[Dataset, Report]:
    job = show_until_over(client.jobs.get(str(accepted.job_id)), title)
    checked = str((job.result or {}).get("dataset") or accepted.id)
    dataset = client.datasets.get(checked)
    if dataset.state == "checking":
        job.require_success()
    if checked != accepted.id:
        print(same.format(f"{checked} ({dataset.name})"), file=sys.stderr)
    return dataset, client.datasets.report(checked)


def revise_dataset(
    client: Fovea, dataset: str, changes: Changes, *, add: Path | None, name: str | None, on_fault: FaultPolicy
) -> tuple[Dataset, Report]:
    """Have a dataset corrected; returns the revision, `ready` or `refused`, with its report.

    What changes nothing gives the dataset itself. Raises what `create_dataset` raises.
    """
    title = f"revising {dataset}"
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(_archive(add)) if add else None
        shown = stack.enter_context(Transfer(f"sending {title_of(archive)}", None)) if archive else None
        accepted = client.datasets.revise(
            dataset,
            relabel=changes.relabel,
            remove=changes.remove,
            move=changes.move,
            add=archive,
            name=name,
            on_fault=on_fault,
            progress=(lambda sent: shown.reach(sent.done, sent.total)) if shown else False,
            wait=False,
        )
    return _checked(client, accepted, title, "there is a dataset of these images and labels already, {}")


def named_dataset(
    client: Fovea, dataset: str, on_fault: FaultPolicy, check: Callable[[], object] = lambda: None
) -> str:
    """The id of the dataset that a user means by an id, `builtin:digits`, or a folder or archive, which is sent.

    `check` is called before gigabytes are sent, so that a mistake is told before and not after. Raises what it
    raises, and what `ready_dataset` raises.
    """
    if dataset.startswith("builtin:") or (_DATASET_ID.fullmatch(dataset) and not Path(dataset).exists()):
        return dataset
    if not Path(dataset).exists():
        raise DatasetUnusable(f"{dataset} is no dataset's id, and there is no folder or archive of that name")
    check()
    return ready_dataset(client, Path(dataset), on_fault)


def ready_dataset(client: Fovea, source: Path, on_fault: FaultPolicy = "skip") -> str:
    """The id of a dataset to learn from: sent and checked now, or the one there already of the same images.

    Raises DatasetUnusable with the refusals, and what `create_dataset` raises.
    """
    dataset, report = create_dataset(client, source, on_fault=on_fault)
    name = dataset.id
    if dataset.state != "ready":
        why = "; ".join(report.refusals or ["see its report"])
        raise DatasetUnusable(f"dataset {name} is refused: {why}. All: fovea datasets report {name}")
    faults = sum(report.faults_by_code.values())
    more = f"; {faults} faults: fovea datasets report {name}" if faults else ""
    print(f"{name} is ready: {report.images} images, {len(dataset.labels)} classes{more}", file=sys.stderr)
    return name


@contextlib.contextmanager
def _archive(source: Path) -> Iterator[Path]:
    if not source.exists():
        raise DatasetUnusable(f"{source}: no such folder or archive")
    if not source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="fovea-dataset-") as temporary:
        packed = Path(temporary) / "dataset.tar"
        with Transfer(f"packing {source}", None) as shown:
            pack(source, packed, lambda _, done, total: shown.reach(done, total))
        yield packed


def _send(client: Fovea, archive: Path, name: str, on_fault: FaultPolicy, labels: Labels) -> Dataset:
    try:
        with Transfer(f"sending {name}", archive.stat().st_size) as shown:
            return client.datasets.create(
                archive,
                name=name,
                on_fault=on_fault,
                labels=labels,
                progress=lambda sent: shown.reach(sent.done, sent.total),
                wait=False,
            )
    except OSError as exc:
        raise DatasetUnusable(f"{archive} cannot be read: {exc.strerror or exc}") from exc
