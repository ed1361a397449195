"""`fovea up`: SQLite, a folder of blobs and two private Redis servers, all under one supervisor."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from chaos.site import Site
from chaos.store import Disk, FolderStore, can_mount


@dataclass
class UpSite(Site):
    name = "up"

    def __post_init__(self) -> None:
        self.store = FolderStore(self.data / "blobs")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def database_url(self) -> str:
        return f"sqlite:///{self.data / 'fovea.db'}"

    @property
    def redis(self) -> Mapping[str, Path]:
        return {name: self.data / "run" / f"{name}.sock" for name in ("broker", "transit")}

    @property
    def data_folders(self) -> list[Path]:
        return [self.data]

    def start(self) -> None:
        self.weights.mkdir(exist_ok=True)
        (self.folder / "tmp").mkdir()
        if can_mount(self.folder):
            self.disk = Disk(self.data)
            self.disk.mount()
        self.keep("supervisor", self._start)

    def stop(self) -> None:
        self.end_kept(["supervisor"])

    def remove(self) -> None:
        self.store.heal()
        if self.disk:
            self.disk.unmount()

    def _start(self):  # type: ignore[no-untyped-def]
        own = {**self.environment(), "HOME": str(self.folder), "TMPDIR": str(self.folder / "tmp")}
        options = ["--data", str(self.data), "--port", str(self.port), "--no-starter", "--device", "cpu"]
        return self.spawn("up", [sys.executable, "-m", "cli.main", "up", *options], own)
