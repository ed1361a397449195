"""Keeps a training worker's disk from filling: what ended jobs left, and what was cached and not used for long."""

import contextlib
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from storage.errors import NotFound
from storage.job_ledger import JobLedger
from system.files import is_part

# Below the cache folder: what can be made again, at the cost of time.
PIXELS, FEATURES, BACKBONES = "pixels", "features", "backbones"
CACHES = (PIXELS, FEATURES, BACKBONES)
# A file without its final name that was not written to for so long is nobody's.
WRITING_S = 3600.0
log = structlog.get_logger()


def work_folder(data: Path) -> Path:
    """Where each training job has a folder of its own, by its id, until it has ended."""
    return data / "work"


def delete_old_work(work: Path, ledger: JobLedger, *, keep: str | None = None) -> None:
    """Removes the folders of jobs that have ended elsewhere or are gone; `keep` is the job at hand."""
    for folder in work.iterdir() if work.is_dir() else ():
        if folder.name != keep and _is_over(ledger, folder.name):
            shutil.rmtree(folder, ignore_errors=True)
            log.info("training.cleaned_up", leftover=folder.name)


def bound_cache(folders: Sequence[Path], budget: int) -> None:
    """Removes the files of these caches that were longest not used, until the rest fit into `budget` bytes.

    A file that another process has mapped stays readable for it until it lets go; one that is being written stays.
    """
    now = time.time()
    found = sorted(
        (
            (stat.st_mtime, stat.st_size, file)
            for folder in folders
            for file, stat in _files(folder)
            if not (is_part(file) and now - stat.st_mtime < WRITING_S)
        ),
        reverse=True,
    )
    total = 0
    for _, size, file in found:
        total += size
        if total > budget:
            file.unlink(missing_ok=True)
            log.info("training.cache_evicted", file=file.name, bytes=size)


def _is_over(ledger: JobLedger, job_id: str) -> bool:
    try:
        return ledger.get(job_id).state.is_terminal
    except NotFound:
        return True


def _files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    found = []
    for file in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):
            found.append((file, file.stat()))
    return found
