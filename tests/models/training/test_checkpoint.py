"""Checkpoints are whole or absent, and hold nothing that could run code."""

import json
import threading
from pathlib import Path

import pytest
import torch

from models.training.checkpoint import RECORD, STATE, WEIGHTS, Checkpoint, Checkpoints, weights_sha256


def some(number: int) -> Checkpoint:
    return Checkpoint(
        {"w": torch.full((3,), float(number))}, {"random": torch.get_rng_state()}, {"number": number}
    )


def test_the_newest_is_read_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "mine")
    for number in (1, 2, 3):
        checkpoints.save(some(number))
    newest = checkpoints.newest()
    assert newest is not None
    assert (newest.record["number"], newest.weights["w"].tolist()) == (3, [3, 3, 3])
    assert torch.equal(newest.state["random"], torch.get_rng_state())
    assert newest.best is None
    assert len(list(tmp_path.iterdir())) == 2


def test_there_is_none_at_first(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "nothing", "mine").newest() is None


def test_one_of_another_training_is_not_taken(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "theirs").save(some(1))
    assert Checkpoints(tmp_path, "mine").newest() is None


@pytest.mark.parametrize("name", [WEIGHTS, STATE, RECORD])
def test_a_damaged_one_falls_back_to_the_one_before(tmp_path: Path, name: str) -> None:
    checkpoints = Checkpoints(tmp_path, "mine")
    checkpoints.save(some(1))
    damaged = checkpoints.save(some(2)) / name
    damaged.write_bytes(damaged.read_bytes()[:-3])
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.record["number"] == 1


def test_a_half_written_one_leaves_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "mine")
    with pytest.raises(TypeError):
        checkpoints.save(Checkpoint({}, {}, {"number": object()}))
    assert not list(tmp_path.iterdir())


def test_the_json_beside_it_says_what_it_is(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path, "mine").save(some(4))
    record = json.loads((folder / RECORD).read_text())
    assert (record["number"], record["fingerprint"], set(record["files"])) == (4, "mine", {WEIGHTS, STATE})


def test_a_state_that_could_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("run",))

    checkpoints = Checkpoints(tmp_path, "mine")
    checkpoints.save(Checkpoint({}, {"evil": Evil()}, {}))
    with pytest.raises(Exception, match="Weights only load failed"):
        checkpoints.newest()


def test_a_sum_is_of_names_shapes_and_values() -> None:
    sums = {
        weights_sha256({"a": torch.zeros(2), "b": torch.ones(2)}),
        weights_sha256({"b": torch.zeros(2), "a": torch.ones(2)}),
        weights_sha256({"a": torch.zeros(1, 2), "b": torch.ones(2)}),
        weights_sha256({"a": torch.zeros(2)}),
    }
    assert len(sums) == 4
    one, other = {"a": torch.zeros(2), "b": torch.ones(2)}, {"b": torch.ones(2), "a": torch.zeros(2)}
    assert weights_sha256(one) == weights_sha256(other)


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 10):
            Checkpoints(tmp_path, "mine").save(some(number))

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 100)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    newest = Checkpoints(tmp_path, "mine").newest()
    assert newest is not None
    assert newest.record["number"] in (9, 109)
    assert not list(tmp_path.glob(".*"))
