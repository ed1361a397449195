"""The blobs of a Fovea under test, and what can be done to them from outside."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from support.gated_s3 import GatedS3

from storage.blobs import BlobStore


@dataclass
class FolderStore:
    """A folder. Away it is as an unplugged disk: a file stands in its place."""

    folder: Path
    is_mounted: bool = field(default=False, init=False)

    @property
    def url(self) -> str:
        return self.folder.as_uri()

    @property
    def blobs(self) -> BlobStore:
        return BlobStore(self.url)

    @property
    def _aside(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-aside")

    def go_away(self) -> None:
        self.folder.rename(self._aside)
        self.folder.touch()

    def forbid_writes(self) -> None:
        """By a mount on itself, for root may write whatever the file modes say."""
        folder = str(self.folder)
        for command in (["mount", "--bind", folder, folder], ["mount", "-o", "remount,bind,ro", folder]):
            subprocess.run(command, check=True)
            self.is_mounted = True

    def heal(self) -> None:
        if self._aside.exists():
            self.folder.unlink()
            self._aside.rename(self.folder)
        if self.is_mounted:
            # Lazily: a reader may have a file open.
            subprocess.run(["umount", "--lazy", str(self.folder)], check=True)
            self.is_mounted = False


@dataclass
class S3Store:
    server: GatedS3
    url: str

    @property
    def blobs(self) -> BlobStore:
        return BlobStore(self.url)

    def go_away(self) -> None:
        self.server.state.is_away = True

    def forbid_writes(self) -> None:
        self.server.state.is_read_only = True

    def slow_down(self, seconds: float) -> None:
        self.server.state.delay_s = seconds

    def heal(self) -> None:
        self.server.heal()


Store = FolderStore | S3Store


@dataclass
class Disk:
    """A file system of its own, in memory, which can be full. Root mounts it."""

    folder: Path
    megabytes: int = 8192

    def mount(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ["-o", f"size={self.megabytes}m", "tmpfs", str(self.folder)]
        subprocess.run(["mount", "-t", "tmpfs", *options], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def fill(self) -> None:
        """No byte more than what is there: the disk shrinks, which costs no memory, as filling it would."""
        for _ in range(100):
            told = os.statvfs(self.folder)
            used = (told.f_blocks - told.f_bfree) * told.f_frsize
            if self._resize(f"{used}"):
                return
        raise RuntimeError(f"{self.folder} could not be made full: it grows all the time")

    def heal(self) -> None:
        self._resize(f"{self.megabytes}m")

    def _resize(self, size: str) -> bool:
        """It cannot become smaller than what lies on it."""
        command = ["mount", "-o", f"remount,size={size}", str(self.folder)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0


def can_mount(folder: Path) -> bool:
    """Whether this process may mount: root outside of a locked-down container."""
    probe = Disk(folder / "mount-probe", 1)
    try:
        probe.mount()
        probe.unmount()
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        shutil.rmtree(probe.folder, ignore_errors=True)
    return True
