"""What a trainer makes of what its ranks say, in whatever order that comes. `test_parallel.py` has real ranks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.teaching import Watching

from models.training.checkpoint import Checkpoints
from models.training.errors import RankKilled, RankLost
from models.training.interruption import Interrupted
from models.training.parallel import Following
from models.training.progress import FitResult, StepRecord
from models.training.rank_messages import (
    STAGES,
    Copied,
    Failed,
    Finished,
    Position,
    Saved,
    Stop,
    Stopped,
    TooLarge,
)
from models.training.rank_processes import Gone

LOST = Failed(RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer"), by_others=True)
STEP = StepRecord(epoch=1, epochs=3, step=1, steps=5, images=8, loss=1.0, accuracy=0.5)
DONE = Finished(FitResult((), 1, "epochs"))


class Spoken:
    """Two ranks that say what is written here, one turn after the other, and then nothing any more."""

    count = 2

    def __init__(self, *turns: tuple[int, object]) -> None:
        self._turns = list(turns)
        self.told: list[tuple[int, object]] = []
        self.asked = False

    @property
    def are_speaking(self) -> bool:
        return bool(self._turns)

    def messages(self, timeout_s: float) -> Iterator[tuple[int, object]]:
        assert timeout_s > 0
        if self._turns:
            yield self._turns.pop(0)

    def tell(self, rank: int, message: object) -> None:
        self.told.append((rank, message))

    def ask_where_they_are(self) -> None:
        self.asked = True


def follow(
    spoken: Spoken, folder: Path, watching: Watching | None = None, silence_s: float = 60
) -> FitResult | TooLarge:
    checkpoints = Checkpoints(folder, "this one")
    return Following(spoken, watching or Watching(), checkpoints, silence_s).until_the_end()  # type: ignore[arg-type]


def test_the_end_is_rank_0s(tmp_path: Path) -> None:
    assert follow(Spoken((1, DONE), (0, STEP), (0, DONE)), tmp_path) == DONE.result


def test_a_checkpoint_is_acknowledged(tmp_path: Path) -> None:
    spoken = Spoken((0, Saved()), (0, DONE))
    follow(spoken, tmp_path)
    assert spoken.told == [(0, Copied())]


def test_a_lost_connection_does_not_hide_why_it_was_lost(tmp_path: Path) -> None:
    with pytest.raises(RankKilled, match=r"Rank 1 of the 2 .* was killed \(SIGKILL\): most often for want of"):
        follow(Spoken((0, LOST), (1, Gone("SIGKILL", killed=True))), tmp_path)
    with pytest.raises(RankKilled, match="the machine ran out of memory"):
        follow(Spoken((0, LOST), (1, Gone("out of memory", killed=True))), tmp_path)
    with pytest.raises(ValueError, match="broken") as raised:
        follow(Spoken((0, LOST), (1, Failed(ValueError("broken"), by_others=False))), tmp_path)
    assert raised.value.__notes__ == ["rank 1 of the 2 that trained together"]


def test_the_first_that_goes_wrong_counts(tmp_path: Path) -> None:
    """NCCL ends a rank by SIGABRT when another one is gone."""
    aborted = (0, Gone("SIGABRT", killed=False))
    with pytest.raises(ValueError, match="broken"):
        follow(Spoken((1, Failed(ValueError("broken"), by_others=False)), aborted), tmp_path)
    with pytest.raises(RankLost, match=r"Rank 0 of the 2 that trained together ended by itself \(SIGABRT\)"):
        follow(Spoken(aborted, (1, LOST)), tmp_path)


def test_where_only_connections_are_lost_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Connection closed"):
        follow(Spoken((1, LOST), (0, LOST)), tmp_path)


def test_before_the_first_step_a_stop_is_waited_for_by_nobody(tmp_path: Path) -> None:
    class Stopping(Watching):
        def check(self) -> None:
            raise Interrupted("stopped", resume=True)

    spoken = Spoken()
    with pytest.raises(Interrupted, match="stopped"):
        follow(spoken, tmp_path, Stopping())
    assert spoken.told == []


@pytest.mark.parametrize("how", [{"resume": True}, {"keep_best": True}])
def test_where_there_is_something_to_keep_the_ranks_are_told_once(tmp_path: Path, how: dict[str, bool]) -> None:
    watching = Watching(stop_at=(1, 1), interruption=Interrupted("enough", **how))
    spoken = Spoken((0, STEP), (0, STEP), (0, Stopped()))
    with pytest.raises(Interrupted, match="enough"):
        follow(spoken, tmp_path, watching)
    assert spoken.told == [(0, Stop("enough", how.get("keep_best", False), how.get("resume", False)))]


def test_a_cancellation_waits_for_nobody(tmp_path: Path) -> None:
    spoken = Spoken((0, STEP), (0, DONE))
    with pytest.raises(Interrupted, match="cancelled"):
        follow(spoken, tmp_path, Watching(stop_at=(1, 1), interruption=Interrupted("cancelled")))
    assert spoken.told == []


def test_the_rank_that_is_behind_is_named(tmp_path: Path) -> None:
    waiting, stepping = STAGES.index("waiting for images"), STAGES.index("in a step")
    spoken = Spoken((0, Position(2, 7, stepping)), (1, Position(2, 7, waiting)))
    with pytest.raises(RankLost) as raised:
        follow(spoken, tmp_path, silence_s=0.2)
    assert str(raised.value) == (
        "Rank 1 of the 2 that trained together stands still, and none came further for 0.2 s. It was waiting for "
        "images (epoch 3, after step 7); the worker's log has the details."
    )
    assert spoken.asked


def test_smaller_parts_are_for_who_started_the_ranks(tmp_path: Path) -> None:
    assert follow(Spoken((1, TooLarge(4))), tmp_path) == TooLarge(4)
