"""Leftovers go, and caches stay within their budget; what is needed stays."""

import os
from pathlib import Path

from support.trainer import QUICK, Trainer

from workers.training.cleanup import bound_cache, delete_old_work


def test_the_folders_of_ended_and_unknown_jobs_go(trainer: Trainer) -> None:
    ended, waiting, mine = (trainer.create(**QUICK) for _ in range(3))
    trainer.ledger.request_cancel(ended.id)
    work = trainer.settings.data / "work"
    for name in (ended.id, waiting.id, mine.id, "job_nobody_knows"):
        (work / name / "checkpoints").mkdir(parents=True)
    delete_old_work(work, trainer.ledger, keep=mine.id)
    assert {folder.name for folder in work.iterdir()} == {waiting.id, mine.id}


def test_there_may_be_nothing_to_sweep(trainer: Trainer) -> None:
    delete_old_work(trainer.settings.data / "work", trainer.ledger, keep="job_1")


def test_the_longest_unused_files_go_first(tmp_path: Path) -> None:
    for i, folder in enumerate(("pixels", "features", "pixels", "features")):
        (tmp_path / folder).mkdir(exist_ok=True)
        file = tmp_path / folder / str(i)
        file.write_bytes(bytes(100))
        os.utime(file, (1000 + i, 1000 + i))
    bound_cache((tmp_path / "pixels", tmp_path / "features", tmp_path / "absent"), budget=250)
    assert sorted(file.name for file in tmp_path.rglob("?")) == ["2", "3"]


def test_a_file_that_is_being_written_stays(tmp_path: Path) -> None:
    for name in (".a.npy.part", ".b.npy.part"):
        (tmp_path / name).write_bytes(bytes(1000))
    os.utime(tmp_path / ".b.npy.part", (1000, 1000))
    bound_cache((tmp_path,), budget=10)
    assert [file.name for file in tmp_path.iterdir()] == [".a.npy.part"]
