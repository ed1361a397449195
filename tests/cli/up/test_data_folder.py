"""The data folder is one Fovea's at a time, and what is wrong with it is said in one line."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.errors import DataFolderInUse, DataFolderUnusable
from cli.up.data_folder import claim_data_folder, holder_of

URL = "http://127.0.0.1:8000"


def test_a_claimed_folder_exists_and_names_its_holder(tmp_path: Path) -> None:
    with claim_data_folder(tmp_path / "new" / "data") as folder:
        folder.announce(URL)
        assert holder_of(folder.path) == f"pid {os.getpid()}, {URL}"
    assert holder_of(folder.path) == ""


def test_a_folder_in_use_says_by_whom(tmp_path: Path) -> None:
    with claim_data_folder(tmp_path) as folder:
        folder.announce(URL)
        with pytest.raises(DataFolderInUse) as refused, claim_data_folder(tmp_path):
            pass
    assert str(refused.value).startswith(
        f"the data folder {tmp_path} is in use by another Fovea (pid {os.getpid()}, {URL})"
    )


def test_a_folder_is_free_again_after_its_holder_was_killed(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from cli.up.data_folder import claim_data_folder
with claim_data_folder(Path({str(tmp_path)!r})):
    print("claimed", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "claimed\n"
        with pytest.raises(DataFolderInUse), claim_data_folder(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with claim_data_folder(tmp_path):
        pass


def test_the_lock_is_awaited_while_a_dead_holders_redis_still_writes(tmp_path: Path) -> None:
    """The holder's child inherits the lock and outlives it by half a second."""
    program = f"""
import os, subprocess, sys
from pathlib import Path
from cli.up.data_folder import claim_data_folder
with claim_data_folder(Path({str(tmp_path)!r})) as folder:
    code = "import time; print('holding', flush=True); time.sleep(0.5)"
    subprocess.Popen([sys.executable, "-c", code], pass_fds=(folder.lock,)).stdout
    os.kill(os.getpid(), 9)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "holding\n"
        holder.wait()
        with pytest.raises(DataFolderInUse), claim_data_folder(tmp_path, timeout_s=0.0):
            pass
        with claim_data_folder(tmp_path, timeout_s=5.0):
            pass


@pytest.mark.parametrize("inside", ["file", "file/data"])
def test_a_file_in_the_way_is_named_as_the_reason(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderUnusable, match="file") as refused, claim_data_folder(tmp_path / inside):
        pass
    assert str(tmp_path / inside) in str(refused.value)
    assert "--data" in str(refused.value)


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root writes everywhere; `nobody` does not."""
    before = os.geteuid()
    os.seteuid(65534 if before == 0 else before)
    yield
    os.seteuid(before)


@pytest.mark.usefixtures("ordinary_user")
def test_a_folder_without_the_right_to_write_is_refused() -> None:
    with pytest.raises(DataFolderUnusable, match="not writable"), claim_data_folder(Path("/usr/fovea-data")):
        pass


def test_an_error_inside_the_context_is_not_mistaken_for_one_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), claim_data_folder(tmp_path):
        (tmp_path / "nothing").read_bytes()


def test_sockets_lie_in_the_data_folder_where_their_path_is_short(tmp_path: Path) -> None:
    with claim_data_folder(tmp_path) as folder:
        assert folder.sockets == tmp_path / "run"
        assert folder.sockets.stat().st_mode & 0o777 == 0o700
    assert not folder.sockets.exists()


@pytest.mark.parametrize("name", ["d" * 120, "with a space", "50%", "déjà"])
def test_sockets_lie_elsewhere_where_the_path_would_not_do(tmp_path: Path, name: str) -> None:
    with claim_data_folder(tmp_path / name) as folder:
        assert not folder.sockets.is_relative_to(tmp_path)
        assert folder.sockets.stat().st_mode & 0o777 == 0o700
        assert len(str(folder.sockets / "transit.sock")) < 104
    assert not folder.sockets.exists()
