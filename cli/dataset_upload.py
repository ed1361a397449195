"""A folder or an archive on its way to a running Fovea, which checks it. Knows nothing of what the check finds."""

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from cli.client import ApiClient, Json
from cli.errors import DatasetUnusable
from cli.job_progress import require_success, show_until_over
from cli.transfer import Transfer
from models.dataset.pack import pack

_CHUNK = 2**20
_MEDIA_TYPES = {
    ".zip": "application/zip",
    ".tar": "application/x-tar",
    ".tar.gz": "application/gzip",
    ".tgz": "application/gzip",
}


def create_dataset(client: ApiClient, source: Path, name: str | None = None, on_fault: str = "skip") -> Json:
    """Send and have checked; returns the dataset, `ready` or `refused`, with its `report`.

    Where a dataset has the same images already, that one is returned. A folder is packed into a temporary archive
    of its size first (TMPDIR says where). Raises DatasetUnusable where there is nothing to send, what packing
    raises, what the client raises, JobFailed and Detached.
    """
    name = name or title_of(source)
    with _archive(source) as archive:
        accepted = _send(client, archive, name, on_fault)
    job = show_until_over(client, accepted["job"]["id"], f"checking {name}")
    checked = (job.get("result") or {}).get("dataset") or accepted["id"]
    dataset = client.get_dataset(checked)
    if dataset["state"] == "checking":
        require_success(job)
    if checked != accepted["id"]:
        print(f"the same images are there already as {checked} ({dataset['name']})", file=sys.stderr)
    return {**dataset, "report": client.get_report(checked)}


def ready_dataset(client: ApiClient, source: Path, on_fault: str = "skip") -> str:
    """The id of a dataset to learn from: sent and checked now, or the one there already of the same images.

    Raises DatasetUnusable with the refusals, and what `create_dataset` raises.
    """
    dataset = create_dataset(client, source, on_fault=on_fault)
    name, report = str(dataset["id"]), dataset["report"]
    if dataset["state"] != "ready":
        why = "; ".join(report.get("refusals") or ["see its report"])
        raise DatasetUnusable(f"dataset {name} is refused: {why}. All: fovea datasets report {name}")
    faults = sum((report.get("faults_by_code") or {}).values())
    more = f"; {faults} faults: fovea datasets report {name}" if faults else ""
    print(f"{name} is ready: {report['images']} images, {len(dataset['labels'])} classes{more}", file=sys.stderr)
    return name


def title_of(source: Path) -> str:
    """The folder's or archive's name without its suffix."""
    name = source.resolve().name
    suffix = _suffix(name)
    return name[: -len(suffix)] if suffix and name != suffix else name or "dataset"


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


def _send(client: ApiClient, archive: Path, name: str, on_fault: str) -> Json:
    try:
        with archive.open("rb") as file, Transfer(f"sending {name}", size := archive.stat().st_size) as shown:
            media_type = _MEDIA_TYPES.get(_suffix(archive.name), "")
            return client.create_dataset(_pieces(file, shown.advance), size, name, on_fault, media_type)
    except OSError as exc:
        raise DatasetUnusable(f"{archive} cannot be read: {exc.strerror or exc}") from exc


def _pieces(file: BinaryIO, report: Callable[[int], None]) -> Iterator[bytes]:
    while piece := file.read(_CHUNK):
        yield piece
        report(len(piece))


def _suffix(name: str) -> str:
    return next((suffix for suffix in _MEDIA_TYPES if name.lower().endswith(suffix)), "")
