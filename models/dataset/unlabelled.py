"""Images without labels, on disk: to be classified, not learnt from. Complete once `dataset.json` lies there.

    files/ab/<sha256>          as in a labelled dataset, and its thumbnails
    images.jsonl               one `UnlabelledImage` to a line, one line for each file that was sent
    report.json                what the pre-flight found
    dataset.json               written last: format, no labels, content_hash, bytes

Who opens it as a labelled dataset finds no samples.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from models.dataset.errors import DatasetCorrupt
from models.dataset.folder import FORMAT, write_json
from models.dataset.places import MANIFEST, REPORT, file_name
from system.files import write_whole

IMAGES = "images.jsonl"
UNLABELLED = "unlabelled"


@dataclass(frozen=True)
class UnlabelledImage:
    """`name` is the path under which it was sent, `bytes` its size. `sha256` is empty where a `fault` says why the
    file cannot be used: a code of `models.dataset.report` and a reason."""

    name: str
    sha256: str = ""
    bytes: int = 0
    fault: str | None = None
    reason: str | None = None


def hash_images(images: Iterable[UnlabelledImage]) -> str:
    """The sha256, in hexadecimal, of the sorted lines `["<name>", "<sha256>"]`: another name is another line of
    results, so it is another dataset, and none is ever that of a labelled one."""
    digest = hashlib.sha256(b"unlabelled\n")
    for line in sorted(json.dumps([image.name, image.sha256]) for image in images):
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def complete_unlabelled(
    folder: Path, images: Sequence[UnlabelledImage], content_hash: str, report: Mapping[str, Any]
) -> None:
    """Write the lists beside the pictures that lie in `folder` already, `dataset.json` last."""
    write_whole(folder / IMAGES, "".join(json.dumps(asdict(i), ensure_ascii=False) + "\n" for i in images))
    write_json(folder / REPORT, report)
    kept = {image.sha256 for image in images if image.sha256}
    write_json(
        folder / MANIFEST,
        {
            "format": FORMAT,
            "labels": [],
            "content_hash": content_hash,
            "bytes": sum((folder / file_name(sha256)).stat().st_size for sha256 in kept),
        },
    )


def read_images(content: bytes) -> Iterator[UnlabelledImage]:
    """The images that `images.jsonl` lists; unknown fields are ignored. Raises DatasetCorrupt."""
    known = {field.name for field in fields(UnlabelledImage)}
    try:
        for line in content.decode().split("\n"):
            if line:
                yield UnlabelledImage(**{name: v for name, v in json.loads(line).items() if name in known})
    except (ValueError, TypeError, AttributeError) as error:
        raise DatasetCorrupt(f"{IMAGES} cannot be read: {error}") from error
