"""`Fovea.datasets`: labelled images, sent and checked."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Literal

from fovea_client import calls
from fovea_client.answer import Json
from fovea_client.call import as_json
from fovea_client.errors import DatasetRefused, JobFailed
from fovea_client.folder import pack
from fovea_client.form import form_of
from fovea_client.image import UNTYPED, shown
from fovea_client.jobs import Job, job_by
from fovea_client.models import given, id_of
from fovea_client.operation import Mode, Resource, listing, operation
from fovea_client.plan import Feed, Plan, compute
from fovea_client.progress import JobProgress, ShownUpload, UploadProgress
from fovea_client.records import Dataset, DatasetImage, Diagnosis, Model, Report, Version
from fovea_client.request import Body
from fovea_client.session import Session

Source = str | os.PathLike[str] | bytes | BinaryIO
Progress = bool | Callable[[UploadProgress], object]
OnFault = Literal["skip", "refuse"]
Labels = Literal["folders", "none"]

CHUNK = 2**20
MEDIA_TYPES = {
    ".zip": "application/zip",
    ".tar": "application/x-tar",
    ".tar.gz": "application/gzip",
    ".tgz": "application/gzip",
}


class Datasets(Resource[Mode]):
    """Labelled images: sent, listed, deleted."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @operation
    def create(
        self,
        source: Source,
        *,
        name: str | None = None,
        on_fault: OnFault = "skip",
        labels: Labels = "folders",
        progress: Progress = False,
        wait: bool = True,
    ) -> Plan[Dataset]:
        """Send a folder or an archive and have it checked; the dataset, ready to be learned from.

        `source` has a folder for each class, or `train/ val/ test/` over such folders, or a manifest
        (`file,label[,split]`), or, with `labels="none"`, images to be classified, wherever they lie. It may be a
        zip, tar or tar.gz, also as bytes or an open file. A folder is packed
        into a temporary archive of its size first (TMPDIR says where). Where the same images are there already,
        their dataset is returned. `progress`: True shows a bar, a function is called with each `UploadProgress`.
        Without `wait` it comes back `checking`, with the `job_id`.

        Raises DatasetRefused with its report, JobFailed, OSError, ValueError, ApiError, Unreachable.
        """
        name = name or title_of(source)
        with ExitStack() as to_clean, ShownUpload(name, progress) as progress_shown:
            archive = yield from compute(lambda: _archive(source, to_clean, progress_shown))
            call = calls.create_dataset(archive, name, on_fault, _media_type(source), labels)
            sent = yield from self._session.answer(call.parsed_by(as_json(_accepted)))
        if not wait or not sent.job_id:
            return sent
        return (yield from self._checked(sent, progress))

    @operation
    def revise(
        self,
        dataset: str,
        *,
        relabel: Mapping[str, str] | None = None,
        remove: Sequence[str] = (),
        move: Mapping[str, str] | None = None,
        add: Source | None = None,
        name: str | None = None,
        base_content_hash: str | None = None,
        on_fault: OnFault | None = None,
        progress: Progress = False,
        wait: bool = True,
    ) -> Plan[Dataset]:
        """Make another dataset of this one with changes: the revision, ready to be learned from.

        An image is named by its sha256, its path or the end of that: `relabel` has the new label of each, `move`
        its new split; `add` is a folder or an archive of further images, as in `create`. All changes are made or
        none. What stays is not stored again, and what changes nothing gives the dataset itself.

        Raises what `create` raises, with a report that names every change which cannot be made, NotFound, and
        Conflict where `base_content_hash` is not the dataset's.
        """
        fields = given(
            relabel=[{"image": image, "label": label} for image, label in (relabel or {}).items()] or None,
            remove=[*remove] or None,
            move=[{"image": image, "split": split} for image, split in (move or {}).items()] or None,
            name=name,
            base_content_hash=base_content_hash,
            on_fault=on_fault,
        )
        with ExitStack() as to_clean, ShownUpload(title_of(add or b""), progress) as progress_shown:
            call = calls.revise_dataset(dataset, fields)
            if add is not None:
                archive = yield from compute(lambda: _archive(add, to_clean, progress_shown))
                form, content_type = form_of("changes", fields, "archive", "archive", archive)
                call = calls.extend_dataset(dataset, form, content_type)
            sent = yield from self._session.answer(call.parsed_by(as_json(_accepted)))
        if not wait or not sent.job_id:
            return sent
        return (yield from self._checked(sent, progress))

    @listing
    def revisions(self, dataset: str) -> Feed[Dataset]:
        """Its family, the newest first: what was uploaded and what was made of that. Raises NotFound."""
        return (yield from self._session.items(calls.list_revisions(dataset)))

    @listing
    def list(self, *, search: str | None = None) -> Feed[Dataset]:
        """The newest first; `search` is a part of the name or the id."""
        return (yield from self._session.items(calls.list_datasets(search)))

    @operation
    def get(self, dataset: str) -> Plan[Dataset]:
        """One, with its counts. Raises NotFound."""
        return (yield from self._session.answer(calls.get_dataset(dataset)))

    @operation
    def report(self, dataset: str) -> Plan[Report]:
        """What the check found: every fault with file and reason. Raises NotFound, NotReady."""
        return (yield from self._session.answer(calls.get_report(dataset)))

    @operation
    def thumbnail(self, dataset: str, sha256: str) -> Plan[bytes]:
        """A small picture of one sample, as WEBP. Raises NotFound."""
        return (yield from self._session.answer(calls.get_thumbnail(dataset, sha256)))

    @listing
    def images(
        self, dataset: str, *, label: str | None = None, split: Literal["train", "val", "test"] | None = None
    ) -> Feed[DatasetImage]:
        """Its images by split, label and checksum; those with that label, of that split. Raises NotFound."""
        return (yield from self._session.items(calls.list_images(dataset, label, split)))

    @operation
    def diagnose(
        self, dataset: str | Dataset, *, model: str | Model | Version, idempotency_key: str | None = None
    ) -> Plan[Job[Mode]]:
        """Have a version look for what is wrong with the images: a job, after whose end there is a `diagnosis`.

        Only the version's embedding is used: its classes need not be the dataset's. Raises NotFound,
        InvalidRequest for a version that gives none, Conflict for a dataset that cannot be used.
        """
        fields: Json = {"model": model if isinstance(model, str) else model.reference}
        return (yield from job_by(self._session, calls.start_diagnosis(id_of(dataset), fields, idempotency_key)))

    @operation
    def diagnosis(self, dataset: str | Dataset) -> Plan[Diagnosis]:
        """The newest diagnosis. Raises NotFound, also where there is none yet."""
        return (yield from self._session.answer(calls.get_diagnosis(id_of(dataset))))

    @operation
    def diagnosis_page(self, dataset: str | Dataset) -> Plan[str]:
        """The same as a self-contained page of HTML. Raises NotFound."""
        return (yield from self._session.answer(calls.get_diagnosis_page(id_of(dataset))))

    @operation
    def delete(self, dataset: str) -> Plan[None]:
        """With its images, but those that revisions hold. Raises NotFound, and InUse while a job uses it."""
        yield from self._session.answer(calls.delete_dataset(dataset))

    def _checked(self, sent: Dataset, progress: Progress) -> Plan[Dataset]:
        job = yield from job_by(self._session, calls.get_job(str(sent.job_id)))
        failure = None
        try:
            job = yield from Job.wait.plan(job, _of_check(progress))
        except JobFailed as error:
            failure = error
            job = error.job
        checked = str((job.result or {}).get("dataset") or sent.id)
        dataset = yield from self._session.answer(calls.get_dataset(checked))
        if dataset.state == "refused":
            report = yield from self._session.answer(calls.get_report(checked))
            raise DatasetRefused(dataset, report)
        if failure:
            raise failure
        return dataset


def title_of(source: Source) -> str:
    """The folder's or archive's name without its suffix."""
    if isinstance(source, bytes):
        return "dataset"
    given = getattr(source, "name", None) if hasattr(source, "read") else source
    name = Path(given).resolve().name if isinstance(given, str | os.PathLike) else ""
    suffix = _suffix(name)
    return shown(name[: -len(suffix)] if suffix and name != suffix else name or "dataset")


def _of_check(progress: Progress) -> JobProgress:
    if isinstance(progress, bool):
        return progress
    return lambda job: progress(
        UploadProgress("checking", job.progress.get("done") or 0, job.progress.get("total"))
    )


def _accepted(found: Json) -> Dataset:
    return Dataset.read(found, job_id=(found.get("job") or {}).get("id"))


def _archive(source: Source, to_clean: ExitStack, upload: ShownUpload) -> bytes | Body:
    """What is sent. Raises OSError, ValueError."""
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | os.PathLike):
        return source.read()
    path = Path(source)
    if path.is_dir():
        temporary = to_clean.enter_context(tempfile.TemporaryDirectory(prefix="fovea-dataset-"))
        packed = Path(temporary) / "dataset.tar"
        pack(path, packed, lambda done, total: upload.show("packing", done, total))
        path = packed
    return Body(size := path.stat().st_size, lambda: _pieces(path, size, upload))


def _pieces(path: Path, size: int, upload: ShownUpload) -> Iterator[bytes]:
    done = 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece
            done += len(piece)
            upload.show("sending", done, size)


def _media_type(source: Source) -> str:
    name = str(source) if isinstance(source, str | os.PathLike) else ""
    return MEDIA_TYPES.get(_suffix(name), UNTYPED)


def _suffix(name: str) -> str:
    return next((suffix for suffix in MEDIA_TYPES if name.lower().endswith(suffix)), "")
