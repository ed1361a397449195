"""Scratch folders go with their block, and those of killed processes with the next one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from system.scratch import scratch_folder, sweep_scratch


def test_a_folder_goes_with_its_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "new") as folder:
        (folder / "file").write_text("content")
        assert list(folder.iterdir()) == [folder / "file"]
    assert list((tmp_path / "new").iterdir()) == []


def test_a_folder_goes_with_a_block_that_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_folder(tmp_path):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_uses_stays(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from system.scratch import scratch_folder\n"
        "with scratch_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'file').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    with scratch_folder(tmp_path) as mine:
        killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert len(list(tmp_path.iterdir())) == 2
        with scratch_folder(tmp_path) as other:
            assert {folder.parent for folder in (mine, other)} == set(tmp_path.iterdir())


def test_a_folder_that_is_being_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "scratch-new").mkdir()
    (tmp_path / "scratch-old").mkdir()
    os.utime(tmp_path / "scratch-old", (1, 1))
    (tmp_path / "something else").mkdir()
    assert sweep_scratch(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scratch-new", "something else"]
