import zipfile

import pytest

from models.dataset.archive import kind_of, read_members
from models.dataset.errors import ArchiveUnreadable, LimitExceeded, UnsafeArchive
from models.dataset.limits import Limits

FILES = {"ants/1.jpg": b"one", "ants/deep/2.jpg": b"two" * 200_000, "bees/3.png": b"", "é/4.jpg": b"four"}


@pytest.fixture(params=["zip", "tar", "tar.gz", "folder"])
def kind(request):
    return request.param


@pytest.fixture
def source(kind, tmp_path, make_zip, make_tar, make_folder):
    """Writes the files as one kind of source, under a name that says nothing of it."""
    make = {"zip": make_zip, "tar": make_tar, "tar.gz": make_tar, "folder": make_folder}[kind]

    def write(files):
        path = tmp_path / ("upload.gz" if kind == "tar.gz" else "upload")
        return make(path, files)

    return write


def contents(source, limits=None):
    members = read_members(source, limits or Limits())
    return {member.name: b"".join(member.chunks()) for member in members if not member.is_folder}


def test_every_kind_gives_the_same_files(source, kind):
    path = source(FILES)
    assert kind_of(path) == kind
    assert contents(path) == FILES


def test_members_may_be_left_unread(source):
    names = [member.name for member in read_members(source(FILES), Limits()) if not member.is_folder]
    assert sorted(names) == sorted(FILES)


def test_empty_folders_are_told(source):
    members = list(read_members(source({"ants/1.jpg": b"x", "wasps/": b""}), Limits()))
    assert "wasps" in {member.name for member in members if member.is_folder}


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(members=3), "members"),
        (Limits(total_bytes=300_000), "total_bytes"),
        (Limits(member_bytes=300_000), "member_bytes"),
        (Limits(path_depth=2), "path_depth"),
        (Limits(path_length=10), "path_length"),
    ],
)
def test_each_limit_is_kept(source, limits, limit):
    with pytest.raises(LimitExceeded) as caught:
        contents(source(FILES), limits)
    assert caught.value.limit == limit


def test_the_expansion_limit_holds_for_what_is_compressed(tmp_path, make_zip, make_tar):
    zeros = {f"ants/{n}.jpg": bytes(1_000_000) for n in range(10)}
    limits = Limits(expansion_floor=2_000_000)
    for path in (make_zip(tmp_path / "bomb.zip", zeros), make_tar(tmp_path / "bomb.tar.gz", zeros)):
        with pytest.raises(LimitExceeded) as caught:
            contents(path, limits)
        assert caught.value.limit == "expansion"
    assert len(contents(make_tar(tmp_path / "honest.tar", zeros), limits)) == 10


def test_a_name_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("ants/1.jpg", b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("ants/1.jpg", b"another")
    with pytest.raises(UnsafeArchive, match="there twice"):
        contents(tmp_path / "twice.zip")


def test_two_names_that_are_one_on_macos_are_refused(source, kind):
    with pytest.raises(UnsafeArchive, match="there twice"):
        contents(source({"caf\u00e9.jpg": b"composed", "cafe\u0301.jpg": b"decomposed"}))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "this is an empty file"),
        (b"just some text" * 100, "it begins with b'just som'"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(600), "a 7z archive"),
        (b"Rar!\x1a\x07" + bytes(600), "a RAR archive"),
        (b"\xff\xd8\xff\xe0" + bytes(600), "a JPEG picture, not a folder of them"),
    ],
)
def test_what_is_no_archive_is_refused_by_name(tmp_path, content, what):
    (tmp_path / "upload").write_bytes(content)
    with pytest.raises(ArchiveUnreadable, match=what):
        read_members(tmp_path / "upload", Limits())


def test_a_missing_source_is_refused(tmp_path):
    with pytest.raises(ArchiveUnreadable, match="No such file"):
        read_members(tmp_path / "nowhere.zip", Limits())


def test_links_in_a_folder_are_refused(tmp_path, make_folder):
    secret = tmp_path / "secret.txt"
    secret.write_text("password")
    folder = make_folder(tmp_path / "upload", {"ants/1.jpg": b"one"})
    (folder / "ants" / "2.jpg").symlink_to(secret)
    with pytest.raises(UnsafeArchive, match=r"'ants/2\.jpg' is a link"):
        contents(folder)
    (folder / "ants" / "2.jpg").unlink()
    (folder / "all").symlink_to(tmp_path)
    with pytest.raises(UnsafeArchive, match="'all' is a link"):
        contents(folder)
