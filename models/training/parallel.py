"""A training by several processes with a device each, from the side of the trainer that starts them.

The trainer itself computes nothing meanwhile, so it is never stuck where they are: it tells how it goes, hears
when to stop, and ends all of them when one dies or stands still. Nothing of them outlives it.
docs/decisions/0026-more-than-one-gpu.md has the reasons.
"""

import logging
import pickle
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from models.errors import DeviceUnavailable
from models.training.checkpoint import CheckpointStore
from models.training.errors import RankKilled, RankLost
from models.training.image_training import ImageTraining
from models.training.interruption import Interrupted
from models.training.progress import EpochRecord, FitResult, StepRecord, Watcher
from models.training.rank_messages import (
    Copied,
    Failed,
    Finished,
    Position,
    Saved,
    Stop,
    Stopped,
    Task,
    TooLarge,
)
from models.training.rank_processes import Gone, RankProcesses, Store
from models.training.recipe import Recipe
from system.ending import OUT_OF_MEMORY

logger = logging.getLogger(__name__)

# Fewer images in a step keep a GPU waiting for its next command: on an H100 a step of ResNet-50 with 64 of them
# takes 1.2 times as long as one with 8.
IMAGES_PER_DEVICE = 64
# Below so many, the seconds in which ranks start are more than what they save: an estimate. An H100 with ResNet-50
# sees them within 20 s, of which a second one could save half; a rank took no less to start there.
WORTH_IMAGES = 50_000
LISTENING_S = 0.2
# Where one rank is gone the others find out within moments, and what they say is not why.
SETTLING_S = 2.0
# A rank says every second where it is, once it has started, which on a machine with much else to do takes long.
DEAF_S = 10.0
STARTING_S = 600.0


@dataclass(frozen=True)
class Devices:
    """What a training on images may use: `count` devices, 0 for all that are worth it.

    Where no rank comes any further for `silence_s` seconds, the training has failed.
    """

    count: int = 1
    silence_s: float = 900.0


ONE_DEVICE = Devices()


def ranks_for(devices: Devices, device: torch.device, recipe: Recipe, images: int) -> int:
    """How many processes are to train together: no more than can share a batch with two images each.

    Raises DeviceUnavailable where more CUDA devices are asked for than there are.
    """
    there = torch.cuda.device_count() if device.type == "cuda" else 1
    batch = min(recipe.batch_size, images)
    if devices.count == 0:
        worth = images * recipe.epochs >= WORTH_IMAGES
        return max(1, min(there, batch // IMAGES_PER_DEVICE)) if worth else 1
    if device.type == "cuda" and devices.count > there:
        raise DeviceUnavailable(
            f"FOVEA_TRAINING_DEVICES is {devices.count}, but torch sees {there} CUDA device(s); lower it, set it "
            "to 0 for all that there are, or look at CUDA_VISIBLE_DEVICES"
        )
    return max(1, min(devices.count, batch // 2))


def train_on_ranks(
    training: ImageTraining,
    ranks: int,
    device: torch.device,
    watcher: Watcher,
    checkpoints: CheckpointStore,
    *,
    silence_s: float,
) -> FitResult:
    """As `fit`, by `ranks` processes; `training.network` has learnt when it returns, and lies on the CPU.

    Where one of them runs out of memory, all begin anew from the newest checkpoint with smaller parts of a batch.
    Raises RankLost, what a rank raised, and what `fit` raises.
    """
    checkpoints.fetch()
    local = checkpoints.local
    local.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=local.folder.parent, prefix="ranks-") as name, Store() as store:
        task = Task(
            training,
            ranks,
            device.type,
            store.port,
            max(1, torch.get_num_threads() // ranks),
            local.folder,
            local.fingerprint,
            Path(name) / "weights.safetensors",
            # What follows them is to be the first to lose patience: it knows whom to blame.
            timeout_s=2 * max(STARTING_S, silence_s),
        )
        while True:
            logger.info("training on %d devices (%s)", ranks, device.type)
            file = Path(name) / "task.pickle"
            file.write_bytes(pickle.dumps(task))
            with RankProcesses(file, ranks) as processes:
                end = Following(processes, watcher, checkpoints, silence_s).until_the_end()
            if isinstance(end, FitResult):
                break
            logger.warning("a rank's memory is used up; all begin anew with %d images at once", end.images)
            task = replace(task, parts=end.images, port=store.renew())
        training.network.load_state_dict(load_file(task.weights))
    training.network.eval()
    return end


class Following:
    """Stays with the ranks of one start until one of them has said its last word, or dies, or all stand still."""

    def __init__(
        self, processes: RankProcesses, watcher: Watcher, checkpoints: CheckpointStore, silence_s: float
    ) -> None:
        self._processes, self._watcher, self._checkpoints = processes, watcher, checkpoints
        self._silence_s = silence_s
        self._asked: Interrupted | None = None
        self._has_stepped = False
        self._moved = time.monotonic()
        self._heard: dict[int, float] = {}
        self._positions = dict.fromkeys(range(processes.count), Position())

    def until_the_end(self) -> FitResult | TooLarge:
        """Raises what it has to."""
        while True:
            self._pass_on(self._watcher.check)
            for rank, message in self._processes.messages(LISTENING_S):
                if rank not in self._heard:
                    self._moved = time.monotonic()
                self._heard[rank] = time.monotonic()
                end = self._take(rank, message)
                if end is not None:
                    return end
            self._require_movement()

    def _take(self, rank: int, message: object) -> FitResult | TooLarge | None:
        match message:
            case Position():
                if message != self._positions[rank]:
                    self._positions[rank], self._moved = message, time.monotonic()
            case StepRecord():
                self._has_stepped = True
                self._pass_on(self._watcher.step, message)
            case EpochRecord():
                self._pass_on(self._watcher.epoch, message)
            case Saved():
                self._checkpoints.copy()
                self._moved = time.monotonic()
                self._processes.tell(0, Copied())
            case Finished(result=result) if rank == 0:
                return result
            case Stopped() if rank == 0 and self._asked is not None:
                raise self._asked
            case TooLarge():
                return message
            case Failed() | Gone():
                self._raise_why((rank, message))
        return None

    def _pass_on(self, say: Callable[..., None], *what: Any) -> None:
        """Tell the watcher. Where it wants the training to stop with something to keep, rank 0 is told so, once.

        Otherwise, and where the newest checkpoint has already what is to be kept, what it raises ends all ranks at
        once.
        """
        if self._asked is not None and say != self._watcher.check:
            return
        try:
            say(*what)
        except Interrupted as wanted:
            nothing_new = wanted.resume and not self._has_stepped
            if nothing_new or not (wanted.keep_best or wanted.resume):
                raise
            if self._asked is None or (wanted.keep_best, wanted.resume) != (
                self._asked.keep_best,
                self._asked.resume,
            ):
                self._asked = wanted
                self._processes.tell(0, Stop(wanted.reason, wanted.keep_best, wanted.resume))

    def _raise_why(self, first: tuple[int, Failed | Gone]) -> None:
        """Of everything that has gone wrong, raise the first that was not because of another rank."""
        found = [first]
        count = self._processes.count
        until = time.monotonic() + SETTLING_S
        while (left := until - time.monotonic()) > 0 and self._processes.are_speaking:
            for rank, message in self._processes.messages(left):
                if isinstance(message, Failed | Gone):
                    found.append((rank, message))
        rank, why = next(((rank, why) for rank, why in found if isinstance(why, Gone) or not why.by_others), first)
        if isinstance(why, Gone):
            raise death_of(f"Rank {rank} of the {count} that trained together", why)
        logger.error("rank %d of %d failed: %r", rank, count, why.error)
        why.error.add_note(f"rank {rank} of the {count} that trained together")
        raise why.error

    def _require_movement(self) -> None:
        now, ranks = time.monotonic(), range(self._processes.count)
        patience = self._silence_s if len(self._heard) == len(ranks) else max(STARTING_S, self._silence_s)
        if now - self._moved < patience:
            return
        deaf = [rank for rank in ranks if now - self._heard.get(rank, 0.0) > DEAF_S]
        last = min(self._positions.values())
        behind = [rank for rank, position in self._positions.items() if position == last]
        rank = (deaf or behind)[0]
        how = "does not answer" if deaf else "stands still"
        self._processes.ask_where_they_are()
        raise RankLost(
            f"Rank {rank} of the {self._processes.count} that trained together {how}, and none came further for "
            f"{patience:g} s. It was {self._positions[rank]}; the worker's log has the details."
        )


def death_of(who: str, gone: Gone) -> RankLost:
    """The end of `who` in words for the job's user."""
    if not gone.killed:
        return RankLost(f"{who} ended by itself ({gone.how}); the worker's log has the details.")
    cause = "the machine ran out of memory" if gone.how == OUT_OF_MEMORY else "most often for want of memory"
    return RankKilled(
        f"{who} was killed (SIGKILL): {cause}. Give the training worker more, or choose a smaller batch_size or "
        "architecture."
    )
