import tarfile

import pytest

from models.dataset.archive import read_members
from models.dataset.errors import ArchiveUnreadable, UnsafeArchive
from models.dataset.limits import Limits
from models.dataset.pack import Packed, pack

FILES = {"train/bees/2.jpg": b"two", "train/ants/1.jpg": b"one" * 50_000, "val/é ß.jpg": b"", "train/wasps/": b""}
LITTER = {".DS_Store": b"x", "train/._1.jpg": b"x", "__MACOSX/a.jpg": b"x", ".git/HEAD": b"x"}


def contents(path):
    return {m.name: b"".join(m.chunks()) for m in read_members(path, Limits()) if not m.is_folder}


@pytest.fixture
def folder(tmp_path, make_folder):
    return make_folder(tmp_path / "insects", {**FILES, **LITTER})


def test_what_is_packed_is_read_again_without_litter(tmp_path, folder):
    packed = pack(folder, tmp_path / "out.tar")
    assert contents(tmp_path / "out.tar") == {name: data for name, data in FILES.items() if not name.endswith("/")}
    assert packed == Packed(3, (tmp_path / "out.tar").stat().st_size)
    folders = {member.name for member in read_members(tmp_path / "out.tar", Limits()) if member.is_folder}
    assert folders == {"train", "train/ants", "train/bees", "train/wasps", "val"}


def test_the_same_folder_gives_the_same_bytes(tmp_path, folder, make_folder):
    twin = make_folder(tmp_path / "twin", dict(reversed(FILES.items())))
    pack(folder, tmp_path / "1.tar")
    pack(twin, tmp_path / "2.tar")
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


def test_an_archive_within_the_folder_does_not_pack_itself(folder):
    pack(folder, folder / "out.tar")
    first = (folder / "out.tar").read_bytes()
    pack(folder, folder / "out.tar")
    assert (folder / "out.tar").read_bytes() == first


def test_progress_is_told_in_bytes(tmp_path, folder):
    steps = []
    pack(folder, tmp_path / "out.tar", lambda *step: steps.append(step))
    assert steps[-1] == ("packing", 150_003, 150_003)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)


def test_a_link_to_a_file_is_packed_as_the_file(tmp_path, folder):
    (tmp_path / "elsewhere.jpg").write_bytes(b"three")
    (folder / "train" / "ants" / "3.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    pack(folder, tmp_path / "out.tar")
    assert contents(tmp_path / "out.tar")["train/ants/3.jpg"] == b"three"
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert not any(entry.issym() for entry in archive)


def link_a_folder(folder):
    (folder / "all").symlink_to(folder.parent)


def name_a_backslash(folder):
    (folder / "a\\b.jpg").write_bytes(b"x")


@pytest.mark.parametrize("spoil", [link_a_folder, name_a_backslash])
def test_what_would_be_refused_where_it_is_sent_is_refused_here(tmp_path, folder, spoil):
    spoil(folder)
    with pytest.raises(UnsafeArchive):
        pack(folder, tmp_path / "out.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["insects"]


@pytest.mark.parametrize("files", [{}, LITTER, {"wasps/": b""}])
def test_a_folder_without_files_is_refused(tmp_path, make_folder, files):
    with pytest.raises(ArchiveUnreadable, match="holds no files"):
        pack(make_folder(tmp_path / "empty", files), tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()


def test_a_broken_link_is_named(tmp_path, folder):
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ArchiveUnreadable, match=r"gone\.jpg cannot be packed"):
        pack(folder, tmp_path / "out.tar")


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ArchiveUnreadable, match="is no folder"):
        pack(tmp_path / "nowhere", tmp_path / "out.tar")
