"""A folder as an archive: what goes in, and that the same folder is the same bytes."""

import os
import tarfile
from pathlib import Path

import pytest

from fovea_client.datasets import title_of
from fovea_client.folder import is_litter, pack
from models.dataset.names import is_litter as is_litter_to_the_service


def made(folder: Path) -> Path:
    for name in ("b/2.png", "a/1.png", "a/.DS_Store", "__MACOSX/a/1.png", "Thumbs.db", "ä/ü.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


def test_it_holds_the_files_in_order_and_no_litter(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out.tar"
    pack(made(tmp_path / "photos"), out, lambda done, total: seen.append((done, total)))
    with tarfile.open(out) as archive:
        assert archive.getnames() == ["a/1.png", "b/2.png", "ä/ü.png"]
        member = archive.extractfile("b/2.png")
        assert member
        assert member.read() == b"b/2.png"
    assert seen[-1][0] == seen[-1][1]


def test_the_same_folder_is_the_same_bytes(tmp_path: Path) -> None:
    packed: list[bytes] = []
    for name in ("one", "two"):
        folder = made(tmp_path / name)
        os.utime(folder / "a/1.png", (len(packed), len(packed)))
        pack(folder, tmp_path / f"{name}.tar", lambda *_: None)
        packed.append((tmp_path / f"{name}.tar").read_bytes())
    assert packed[0] == packed[1]


def test_a_link_to_a_file_is_the_file_and_one_to_a_folder_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "photos")
    (folder / "a/3.png").symlink_to(folder / "b/2.png")
    pack(folder, tmp_path / "out.tar", lambda *_: None)
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.getmember("a/3.png").isfile()
    (folder / "c").symlink_to(folder / "b")
    with pytest.raises(ValueError, match="is a link to a folder"):
        pack(folder, tmp_path / "out.tar", lambda *_: None)


@pytest.mark.parametrize(
    "name", [".DS_Store", "._1.png", "Thumbs.db", "desktop.ini", "__MACOSX", "1.png", "a b.jpg"]
)
def test_litter_is_what_the_service_calls_so(name: str) -> None:
    assert is_litter(name) == is_litter_to_the_service(name)


@pytest.mark.parametrize(
    ("file", "title"),
    [("a/flags.tar.gz", "flags"), ("flags.v2.ZIP", "flags.v2"), ("flags", "flags"), (".zip", ".zip")],
)
def test_a_datasets_name_is_the_files_without_its_suffix(file: str, title: str) -> None:
    assert title_of(Path(file)) == title_of(file) == title
    assert title_of(b"PK") == "dataset"
