"""The whole state of a training on disk, so that it can go on exactly where it stopped. Knows no loop.

One folder per checkpoint: tensors as safetensors, the optimizer's state in a file that `torch.load` reads without
running code, and `checkpoint.json`, written last, with the checksums of the others. A reader trusts only folders
whose JSON is there and whose checksums hold.
"""

import errno
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.training.disk import writing
from system.files import sha256_of, sync

RECORD = "checkpoint.json"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"
STATE = "state.pt"


@dataclass
class Checkpoint:
    """`weights` and `best` are state dicts; `state` is what torch's own objects answer; `record` is plain JSON."""

    weights: dict[str, Tensor]
    state: dict[str, Any]
    record: dict[str, Any]
    best: dict[str, Tensor] | None = None


class CheckpointStore(Protocol):
    """Where a training keeps its checkpoints and finds the newest one again.

    Another process may do the training and write into the folder of `local`, after `fetch` and before `copy`.
    """

    @property
    def local(self) -> "Checkpoints": ...
    def save(self, checkpoint: Checkpoint) -> object: ...
    def newest(self) -> Checkpoint | None: ...
    def fetch(self) -> None: ...
    def copy(self) -> None: ...


@dataclass
class Checkpoints:
    """The checkpoints of one training in a folder; the newest two stay. `fingerprint` is what they belong to."""

    folder: Path
    fingerprint: str

    @property
    def local(self) -> "Checkpoints":
        return self

    def fetch(self) -> None:
        """There is no other place."""

    def copy(self) -> None:
        """There is no other place."""

    def save(self, checkpoint: Checkpoint) -> Path:
        """Writes a checkpoint; when this returns, it survives a loss of power. Raises OSError on a full disk."""
        with self.incoming() as folder:
            weights, best = cpu_copies(checkpoint.weights), checkpoint.best
            with writing(folder / WEIGHTS):
                save_file(weights, folder / WEIGHTS)
            with writing(folder / STATE):
                torch.save(checkpoint.state, folder / STATE)
            if best is not None:
                with writing(folder / BEST):
                    save_file(cpu_copies(best), folder / BEST)
            files = {file.name: sha256_of(file) for file in sorted(folder.iterdir())}
            record = {"fingerprint": self.fingerprint, "files": files, **checkpoint.record}
            (folder / RECORD).write_text(json.dumps(record, indent=1))
        for _, old in self._found()[:-2]:
            shutil.rmtree(old, ignore_errors=True)
        return self._found()[-1][1]

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """A folder that becomes the newest checkpoint when the block succeeds, and is gone when it does not."""
        partial = self.folder / f".{uuid.uuid4().hex[:8]}.partial"
        partial.mkdir(parents=True)
        try:
            yield partial
            for file in partial.iterdir():
                sync(file)
            self._place(partial)
            sync(self.folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _place(self, partial: Path) -> None:
        """Under the next free number: an attempt that was overtaken may be writing here too."""
        while True:
            number = max((number for number, _ in self._found()), default=0) + 1
            try:
                partial.rename(self.folder / f"{number:06d}")
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            else:
                return

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint of this fingerprint, or None."""
        for _, folder in reversed(self._found()):
            record = self._record(folder)
            if record is not None:
                return Checkpoint(
                    weights=load_file(folder / WEIGHTS),
                    state=torch.load(folder / STATE, weights_only=True),
                    record=record,
                    best=load_file(folder / BEST) if BEST in record["files"] else None,
                )
        return None

    def newest_folder(self) -> Path | None:
        found = [folder for _, folder in self._found() if self._record(folder) is not None]
        return found[-1] if found else None

    def _found(self) -> list[tuple[int, Path]]:
        if not self.folder.is_dir():
            return []
        return sorted((int(f.name), f) for f in self.folder.iterdir() if f.name.isdecimal())

    def _record(self, folder: Path) -> dict[str, Any] | None:
        try:
            record: dict[str, Any] = json.loads((folder / RECORD).read_text())
            whole = all(sha256_of(folder / name) == sha256 for name, sha256 in record["files"].items())
        except (OSError, ValueError, KeyError):
            return None
        return record if whole and record["fingerprint"] == self.fingerprint else None


def fingerprint_of(*parts: Any) -> str:
    """A sha256 of everything that decides how a training goes: JSON values, and what can be written as text."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def cpu_copies(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that share no memory with each other or with the network: what safetensors asks for."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}


def weights_sha256(tensors: dict[str, Tensor]) -> str:
    """A checksum of names, shapes and values, whatever file they come from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
