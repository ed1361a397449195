"""Processes that stand still for a while, as on a suspended machine."""

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import psutil

Pausable = Popen[Any] | psutil.Process


@contextmanager
def paused(process: Pausable) -> Iterator[None]:
    """Stands still within the block."""
    _stop(process)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def paused_between_transactions(process: Pausable, database: Path) -> Iterator[None]:
    """As `paused`, where the process holds no lock on a SQLite file, which would stop everybody else too."""
    while True:
        with paused(process):
            if not _is_locked(database):
                yield
                return
        time.sleep(0.01)


def _stop(process: Pausable) -> None:
    """One thread takes the signal and stops the others; until it is run, they go on."""
    process.send_signal(signal.SIGSTOP)
    while not all(_is_stopped(task) for task in Path(f"/proc/{process.pid}/task").iterdir()):
        time.sleep(0.001)


def _is_stopped(task: Path) -> bool:
    # The state follows the name, which may hold brackets of its own.
    return (task / "stat").read_text().rpartition(")")[2].split()[0] == "T"


def _is_locked(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=0.2)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False
