"""Files of uploads that a killed gateway left behind."""

import os
import time
from pathlib import Path

from service.uploads import ABANDONED_S, PREFIX, remove_abandoned


def test_what_a_killed_gateway_was_receiving_is_removed_and_what_is_under_way_stays(tmp_path: Path) -> None:
    left, under_way, other = (tmp_path / name for name in (f"{PREFIX}left", f"{PREFIX}under-way", "notes.txt"))
    for path in (left, under_way, other):
        path.write_bytes(b"x")
    hour_ago = time.time() - ABANDONED_S - 1
    for path in (left, other):
        os.utime(path, (hour_ago, hour_ago))
    remove_abandoned(tmp_path)
    assert not left.exists()
    assert under_way.exists()
    assert other.exists()


def test_a_folder_that_is_not_there_yet_holds_nothing(tmp_path: Path) -> None:
    remove_abandoned(tmp_path / "uploads")
