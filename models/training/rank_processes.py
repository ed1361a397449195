"""The processes of a training's ranks: started, heard, and ended together. Knows nothing of training."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from models.training.rank_messages import LOOPBACK, Failed, Finished, Stopped, TooLarge
from system.ending import ending, oom_kills
from system.parent import dying_with_parent

ENDING_S = 10.0
TRACEBACK_S = 1.0
STORE_TIMEOUT = timedelta(minutes=5)
# One machine's ranks find each other on its own loopback, whatever its name resolves to. A user's settings win.
NETWORK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}


@dataclass(frozen=True)
class Gone:
    """A rank ended without a last word; `how`, in a few words."""

    how: str
    killed: bool


class Store:
    """Where ranks find each other: torch's own, that torchrun has, too, but heard by this machine alone."""

    def __init__(self) -> None:
        self.port = self.renew()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        del self._store

    def renew(self) -> int:
        """An empty one for the next start; returns its port."""
        listening = socket.create_server((LOOPBACK, 0))
        port: int = listening.getsockname()[1]
        self._store = TCPStore(
            LOOPBACK,
            port,
            is_master=True,
            timeout=STORE_TIMEOUT,
            wait_for_workers=False,
            master_listen_fd=listening.detach(),
        )
        return port


class RankProcesses:
    """`count` ranks with the task in `file`, until the block ends: then none is left, whatever it was doing."""

    def __init__(self, file: Path, count: int) -> None:
        self.count = count
        self._file = file
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connections: dict[Connection[Any, Any], int] = {}
        self._said_last_word: set[int] = set()
        self._oom_kills = oom_kills()

    def __enter__(self) -> "RankProcesses":
        try:
            for rank in range(self.count):
                self._start(rank)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def are_speaking(self) -> bool:
        return bool(self._connections)

    def messages(self, timeout_s: float) -> Iterator[tuple[int, object]]:
        """What the ranks have said, each with its rank; a Gone for one that has died. Waits for the first."""
        ready = set(wait(list(self._connections), timeout_s))
        for connection, rank in list(self._connections.items()):
            if connection not in ready:
                continue
            try:
                while connection.poll():
                    message = connection.recv()
                    if isinstance(message, Finished | Stopped | TooLarge | Failed):
                        self._said_last_word.add(rank)
                    yield rank, message
            except (EOFError, OSError):
                del self._connections[connection]
                connection.close()
                if rank not in self._said_last_word:
                    yield rank, self._how_it_ended(rank)

    def tell(self, rank: int, message: object) -> None:
        """One that has died is told nothing; `messages` tells that it has."""
        for connection, number in self._connections.items():
            if number == rank:
                with contextlib.suppress(OSError):
                    connection.send(message)

    def ask_where_they_are(self) -> None:
        """Has those that can write the stacks of their threads to the standard error, for the log."""
        for process in self._processes:
            process.send_signal(signal.SIGUSR1)
        time.sleep(TRACEBACK_S)

    def _start(self, rank: int) -> None:
        ours, theirs = Pipe()
        with theirs:
            command = [sys.executable, "-m", "models.training.rank", str(rank), str(theirs.fileno())]
            process = subprocess.Popen(
                # SIGKILL: one that stands still or is stopped would not hear another signal.
                dying_with_parent([*command, str(self._file)], signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**NETWORK, **os.environ},
            )
        self._processes.append(process)
        self._connections[ours] = rank

    def _how_it_ended(self, rank: int) -> Gone:
        try:
            code = self._processes[rank].wait(ENDING_S)
        except subprocess.TimeoutExpired:
            return Gone("it closed its pipe", killed=False)
        how = ending(code, oom_kills_before=self._oom_kills)
        return Gone(how, code == -signal.SIGKILL)

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for connection in self._connections:
            connection.close()
        self._connections.clear()
