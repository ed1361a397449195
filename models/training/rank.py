"""One rank of a training on several devices: `python -m models.training.rank RANK DESCRIPTOR TASK`.

It trains its share with the others, tells the trainer that started it how that goes, and writes nothing but, as
rank 0, checkpoints and the weights at the end. `models.training.parallel` is the other side.
"""

import faulthandler
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from models.training.batches import Batch, Batches
from models.training.checkpoint import Checkpoint, Checkpoints, cpu_copies
from models.training.disk import writing
from models.training.errors import SmallerParts
from models.training.group import Ranks
from models.training.interruption import Interrupted
from models.training.loop import fit
from models.training.precision import compute_in_float32
from models.training.progress import EpochRecord, StepRecord
from models.training.rank_messages import (
    LOOPBACK,
    STAGES,
    Copied,
    Failed,
    Finished,
    LastWord,
    Position,
    Saved,
    Stop,
    Stopped,
    Task,
    TooLarge,
)

BEAT_S = 1.0


class Trainer:
    """The trainer, as a rank speaks with it. A thread says every second where this rank is."""

    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection
        self._speaking = threading.Lock()
        self._position = Position()
        self._stop: Stop | None = None
        threading.Thread(target=self._beat, name="beat", daemon=True).start()

    def tell(self, message: object) -> None:
        with self._speaking:
            self._connection.send(message)

    def at(self, stage: str, epoch: int | None = None, step: int | None = None) -> None:
        before = self._position
        self._position = Position(
            before.epoch if epoch is None else epoch, before.step if step is None else step, STAGES.index(stage)
        )

    @property
    def wish(self) -> Stop | None:
        """The newest thing that the trainer has asked for."""
        while self._connection.poll():
            self._listen()
        return self._stop

    def await_copy(self) -> None:
        while not self._listen():
            pass

    def _listen(self) -> bool:
        """Hears one message; whether it was that a checkpoint is copied."""
        message = self._connection.recv()
        if isinstance(message, Stop):
            self._stop = message
        return isinstance(message, Copied)

    def _beat(self) -> None:
        pause = threading.Event()
        try:
            self.tell(self._position)
            while not pause.wait(BEAT_S):
                self.tell(self._position)
        except OSError:
            # Nobody is left to train for. The kernel says so, too, but only where it is Linux.
            os._exit(1)


class RankWatcher:
    """Passes on what the loop tells; after each step and epoch all ranks stop together, or none does."""

    def __init__(self, trainer: Trainer, group: Ranks) -> None:
        self._trainer, self._group = trainer, group

    def check(self) -> None:
        pass

    def phase(self, name: str) -> None:
        pass

    def progress(self, done: int, total: int) -> None:
        pass

    def step(self, record: StepRecord) -> None:
        last = record.step == record.steps
        self._trainer.at("evaluating" if last else "waiting for images", record.epoch - 1, record.step)
        if self._group.rank == 0:
            self._trainer.tell(record)
        self._stop_together()

    def evaluating(self, done: int, total: int) -> None:
        pass

    def epoch(self, record: EpochRecord) -> None:
        self._trainer.at("waiting for images", record.epoch, 0)
        if self._group.rank == 0:
            self._trainer.tell(record)
        self._stop_together()

    def _stop_together(self) -> None:
        wish = self._trainer.wish if self._group.rank == 0 else None
        # Bits of the wish; every rank but the first has none.
        bits = 0 if wish is None else 1 + 2 * wish.keep_best + 4 * wish.resume
        (agreed,) = self._group.sums(bits)
        if agreed:
            reason = wish.reason if wish else "stopped with the others"
            raise Interrupted(reason, keep_best=bool(int(agreed) & 2), resume=bool(int(agreed) & 4))


class ToldCheckpoints(Checkpoints):
    """Checkpoints that the trainer copies to where another machine finds them."""

    trainer: Trainer

    def save(self, checkpoint: Checkpoint) -> Path:
        self.trainer.at("writing a checkpoint")
        saved = super().save(checkpoint)
        self.trainer.tell(Saved())
        self.trainer.await_copy()
        return saved


class WatchedBatches:
    """Batches that say when a step waits for them."""

    def __init__(self, batches: Batches, trainer: Trainer) -> None:
        self._batches, self._trainer = batches, trainer

    def __len__(self) -> int:
        return len(self._batches)

    def size(self, step: int) -> int:
        return self._batches.size(step)

    def epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        self._trainer.at("waiting for images", epoch, start)
        for batch in self._batches.epoch(epoch, start):
            self._trainer.at("in a step")
            yield batch


def main() -> int:
    rank, descriptor, file = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    # The trainer asks for it where nothing goes on.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    trainer = Trainer(Connection(descriptor))
    # Written by the process that started this one, into a folder that only its user can read.
    task: Task = pickle.loads(file.read_bytes())  # noqa: S301
    trainer.tell(_last_word(task, rank, trainer))
    # What is left, such as the threads of NCCL, has nothing to do any more and may not end by itself.
    sys.stderr.flush()
    os._exit(0)


def _last_word(task: Task, rank: int, trainer: Trainer) -> LastWord:
    try:
        return train(task, rank, trainer)
    except Interrupted:
        return Stopped()
    except SmallerParts as smaller:
        return TooLarge(smaller.images)
    except Exception as error:  # noqa: BLE001 - the trainer decides what becomes of the job
        sys.stderr.write(f"rank {rank} of {task.ranks}:\n{traceback.format_exc()}")
        return Failed(_sendable(error), _tells_of_others(error))


def train(task: Task, rank: int, trainer: Trainer) -> Finished:
    """This rank's part of the training. Raises what `fit` raises."""
    torch.set_num_threads(task.threads)
    device = torch.device(task.device, rank) if task.device == "cuda" else torch.device(task.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    compute_in_float32()
    store = TCPStore(LOOPBACK, task.port, timeout=timedelta(seconds=task.timeout_s))
    group = Ranks(store, rank, task.ranks, device, task.timeout_s)
    checkpoints = ToldCheckpoints(task.checkpoints, task.fingerprint)
    checkpoints.trainer = trainer
    training = task.training.state(device, group, checkpoints, parts=task.parts)
    training.batches = WatchedBatches(training.batches, trainer)
    result = fit(training, RankWatcher(trainer, group))
    trainer.at("ending")
    if rank == 0:
        with writing(task.weights):
            save_file(cpu_copies(dict(training.network.state_dict())), task.weights)
    return Finished(result)


def _sendable(error: Exception) -> Exception:
    try:
        # Classes with arguments of their own cannot all be made anew from what pickle keeps.
        found: Exception = pickle.loads(pickle.dumps(error))  # noqa: S301
    except Exception:  # noqa: BLE001
        return RuntimeError(f"{type(error).__name__}: {error}")
    return found


def _tells_of_others(error: Exception) -> bool:
    """Whether it only says that another rank does not answer any more; gloo has no class for that."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


if __name__ == "__main__":
    sys.exit(main())
