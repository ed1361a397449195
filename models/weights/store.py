"""The weights folder: files by the publishers' own names, fetched once, never used unverified. Knows no torch."""

import urllib.parse
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from models.errors import WeightsCorrupt, WeightsNotFound
from models.weights.download import Downloaded, DownloadFailed, Progress, discard, download
from models.weights.record import read_record, write_record
from models.weights.source import Checksum, WeightsSource
from system.files import sha256_of, sync


@dataclass(frozen=True)
class WeightsFile:
    """A verified file. `verified_by` says what its sha256 was compared with."""

    path: Path
    sha256: str
    size_bytes: int
    verified_by: str


class WeightsStore:
    """Finds, fetches and verifies files in `folder`.

    `base_url` replaces scheme and host of the publishers' addresses by a mirror of the same layout. `offline`
    keeps off the network. `progress` is called with (file name, bytes so far, bytes in all or None).
    """

    def __init__(
        self,
        folder: Path,
        base_url: str | None = None,
        offline: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.folder = folder
        self.base_url = base_url.rstrip("/") if base_url else None
        self.offline = offline
        self.progress = progress

    def pull(self, source: WeightsSource) -> Path:
        """The verified file, downloaded if it is not there. Raises WeightsNotFound, WeightsCorrupt."""
        return self.fetch(source).path

    def fetch(self, source: WeightsSource) -> WeightsFile:
        """As `pull`, with the file's sha256 and how it was verified."""
        path = self.path_of(source)
        if not path.exists():
            self._download(source, path)
        return self.check(source)

    def has(self, source: WeightsSource) -> bool:
        """Whether the file is there, verified or not."""
        return self.path_of(source).exists()

    def path_of(self, source: WeightsSource) -> Path:
        return self.folder / source.filename

    def url_of(self, source: WeightsSource) -> str | None:
        """The address that a download uses: the publisher's, or the mirror's."""
        if source.url is None or self.base_url is None:
            return source.url
        address = urllib.parse.urlsplit(source.url)
        return self.base_url + address.path + (f"?{address.query}" if address.query else "")

    def check(self, source: WeightsSource) -> WeightsFile:
        """Hashes the file that is there. Raises WeightsNotFound, or WeightsCorrupt with both checksums."""
        path = self.path_of(source)
        if not path.is_file():
            raise WeightsNotFound(self._absent(source, "it is not there"))
        found = sha256_of(path)
        expected, verified_by = _expected(source.checksum, None, _recorded_sha256(path))
        if not found.startswith(expected):
            raise WeightsCorrupt(
                f"{source.filename} ({path.stat().st_size} bytes) is not the published file: its sha256 is "
                f"{found}, expected {_written(expected)} ({verified_by}). Remove the file and pull it again."
            )
        return WeightsFile(path, found, path.stat().st_size, verified_by)

    def _download(self, source: WeightsSource, path: Path) -> None:
        url = self.url_of(source)
        if url is None or self.offline:
            raise WeightsNotFound(
                self._absent(source, "downloads are switched off" if url else "it has no address")
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            locks = self.folder / ".locks"
            locks.mkdir(exist_ok=True)
            with FileLock(locks / f"{source.filename.replace('/', '--')}.lock"):
                # Another process may have fetched it while this one waited for the lock.
                if not path.exists():
                    self._download_locked(source, url, path)
        except DownloadFailed as exc:
            raise WeightsNotFound(self._absent(source, str(exc))) from exc
        except OSError as exc:
            reason = f"it cannot be written there: {exc.strerror or type(exc).__name__}"
            raise WeightsNotFound(self._absent(source, reason)) from exc

    def _download_locked(self, source: WeightsSource, url: str, path: Path) -> None:
        got = download(url, path, header=source.checksum.header, progress=self.progress)
        expected, verified_by = _expected(source.checksum, got.stated, None)
        if not got.sha256.startswith(expected):
            discard(got.part)
            host = "the mirror" if self.base_url else url
            raise WeightsCorrupt(
                f"{host} gave {got.size} bytes with sha256 {got.sha256}, expected {_written(expected)} "
                f"({verified_by}); the download was thrown away"
            )
        _write_record(path, source, url, got, verified_by)
        sync(got.part)
        got.part.replace(path)
        sync(path.parent)

    def _absent(self, source: WeightsSource, reason: str) -> str:
        """Names neither folder nor mirror: of a job it is told to those who use Fovea from elsewhere."""
        published = f" It is published at {source.url}." if source.url else ""
        mirrored = " and on the mirror" if self.base_url and not self.offline else ""
        return (
            f"the weights {source.name!r} of {source.architecture} are the file {source.filename}, looked for in "
            f"the weights folder{mirrored}: {reason}.{published} Put the file there by hand, or pull it where "
            "it can be reached."
        )


def _expected(checksum: Checksum, stated: str | None, recorded: str | None) -> tuple[str, str]:
    """What a file's sha256 must begin with, and who says so."""
    if checksum.sha256:
        return checksum.sha256, "the sha256 known to Fovea"
    if checksum.sha256_prefix and not recorded:
        return checksum.sha256_prefix, "the digits in the published file name"
    if stated:
        return stated, f"the host's {checksum.header} header"
    if recorded:
        return recorded, "the sha256 recorded when the file came"
    return "", f"the host sent no {checksum.header} header" if checksum.header else "no checksum is published"


def _written(expected: str) -> str:
    return expected if len(expected) == 64 else f"{expected}..."


def _recorded_sha256(path: Path) -> str | None:
    found = read_record(path).get("sha256")
    return found if isinstance(found, str) and len(found) == 64 else None


def _write_record(path: Path, source: WeightsSource, url: str, got: Downloaded, verified_by: str) -> None:
    record = {
        "architecture": source.architecture,
        "weights": source.name,
        "origin": source.origin,
        "url": url,
        "sha256": got.sha256,
        "size_bytes": got.size,
        "verified_by": verified_by,
        "pulled_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_record(path, record)
