"""Processes that stand still for a while, as on a suspended machine."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any


@contextmanager
def paused(process: "Popen[Any]") -> Iterator[None]:
    """Stands still within the block."""
    _stop(process)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def paused_between_transactions(process: "Popen[Any]", database: Path) -> Iterator[None]:
    """As `paused`, where the process holds no lock on a SQLite file, which would stop everybody else too."""
    while True:
        with paused(process):
            if not _is_locked(database):
                yield
                return
        time.sleep(0.01)


def _stop(process: "Popen[Any]") -> None:
    """One thread takes the signal and stops the others; until it is run, they go on."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


def _is_locked(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=0.2)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False
