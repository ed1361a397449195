"""Which images a bulk classification classifies, in which order: decided once, whatever happens to its attempts.

A dataset never changes, a folder of the operator's does. So the first attempt writes the list down, and its name
into the job's progress, which is fenced: an attempt that was overtaken before that decides nothing any more.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from models.dataset.names import is_litter
from models.dataset.places import FILES, SAMPLES, file_name
from models.dataset.report import FaultCode
from models.dataset.unlabelled import IMAGES, UnlabelledImage, read_images
from storage.blobs import IMAGE_FOLDER, BlobStore
from storage.dataset_files import files_of
from storage.datasets import DatasetRegistry, DatasetState
from workers.contract.jobs.classify_many import ClassifyManyRequest
from workers.jobs.attempt import RunningAttempt
from workers.jobs.failure import InvalidRequest

MOST_IMAGES = 1_000_000
# What an interactive answer calls what the check of an archive has found.
CODES: dict[str, str] = {
    FaultCode.UNREADABLE: "image_unreadable",
    FaultCode.TOO_MANY_PIXELS: "image_too_large",
    FaultCode.NOT_AN_IMAGE: "not_an_image",
    FaultCode.UNSUPPORTED_FORMAT: "not_an_image",
}


@dataclass(frozen=True)
class ListedImage:
    """`path` is what its line calls it. `key` is its blob, of `bytes` when it was listed; empty where there is an
    `error`, a code with its `detail`."""

    path: str
    key: str = ""
    bytes: int = 0
    error: str | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Listing:
    """`name` is what the job's progress has as `listing`."""

    name: str
    images: tuple[ListedImage, ...]


def decided_listing(attempt: RunningAttempt, request: ClassifyManyRequest, lister: "Lister") -> Listing:
    """The list that an earlier attempt decided, or now this one.

    Raises InvalidRequest where there are no images or too many, NotFound, BlobsUnavailable, DatasetCorrupt,
    LeaseLost and Interrupted.
    """
    name = attempt.job.progress.get("listing")
    if isinstance(name, str):
        return Listing(name, _parsed(lister.blobs.get_bytes(_key(attempt, name))))
    attempt.report({"phase": "listing"})
    images = lister.images(request)
    name = attempt.short_id
    lister.blobs.put_bytes(_key(attempt, name), _text(images))
    attempt.report({"phase": "classifying", "done": 0, "total": len(images), "listing": name})
    return Listing(name, images)


@dataclass(frozen=True)
class Lister:
    """Lists what a request names."""

    datasets: DatasetRegistry
    blobs: BlobStore

    def images(self, request: ClassifyManyRequest) -> tuple[ListedImage, ...]:
        """In the order of their paths. Raises what `decided_listing` raises."""
        if request.dataset is not None:
            found = self._of_dataset(request.dataset)
        else:
            found = self._of_folder(request.prefix or "")
        images = tuple(sorted(found, key=lambda image: image.path))
        if not images:
            raise InvalidRequest(f"prefix: there is no image below {IMAGE_FOLDER}/{request.prefix}")
        if len(images) > MOST_IMAGES:
            raise InvalidRequest(f"prefix: {len(images):,} files, at most {MOST_IMAGES:,} are classified at once")
        return images

    def _of_dataset(self, dataset_id: str) -> Iterator[ListedImage]:
        dataset = self.datasets.get(dataset_id)
        if dataset.state is not DatasetState.READY:
            raise InvalidRequest(f"dataset: {dataset_id} is {dataset.state}; only one that is ready is classified")
        if not dataset.labels:
            for image in read_images(self.blobs.get_bytes(f"{dataset.prefix}/{IMAGES}")):
                yield _listed(image, dataset.prefix)
            return
        files = files_of(self.blobs, dataset).located(FILES)
        for line in self.blobs.get_bytes(f"{dataset.prefix}/{SAMPLES}").splitlines():
            sample = json.loads(line)
            name = file_name(sample["sha256"])
            if found := files.get(name):
                yield ListedImage(sample["name"], found.key, found.bytes)
            else:
                yield ListedImage(sample["name"], f"{dataset.prefix}/{name}")

    def _of_folder(self, prefix: str) -> Iterator[ListedImage]:
        folder = f"{IMAGE_FOLDER}/{prefix}".rstrip("/")
        for key, size in self.blobs.sizes(folder).items():
            path = key.removeprefix(f"{IMAGE_FOLDER}/")
            # A folder on S3 may be an object of its own, whose name ends in a slash.
            if is_litter(path) or key.endswith("/"):
                continue
            if "\\" in key:
                detail = "its path holds a backslash, which no key of the store may: rename it"
                yield ListedImage(_readable(path), error="image_unreadable", detail=detail)
            else:
                yield ListedImage(_readable(path), key, size)


def _listed(image: UnlabelledImage, prefix: str) -> ListedImage:
    if image.fault is None:
        return ListedImage(image.name, f"{prefix}/{file_name(image.sha256)}", image.bytes)
    code = CODES.get(image.fault, "image_unreadable")
    return ListedImage(image.name, error=code, detail=image.reason)


def _readable(path: str) -> str:
    """A name of a file system, which may be no UTF-8, as text that can be sent."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _key(attempt: RunningAttempt, name: str) -> str:
    return f"jobs/{attempt.job.id}/listings/{name}.jsonl"


def _text(images: tuple[ListedImage, ...]) -> bytes:
    # In ASCII: a key may hold what is no UTF-8.
    return "".join(json.dumps(asdict(image)) + "\n" for image in images).encode()


def _parsed(content: bytes) -> tuple[ListedImage, ...]:
    return tuple(ListedImage(**json.loads(line)) for line in content.splitlines())
