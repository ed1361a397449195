"""Attack files are made here, by hand where zipfile would not write them."""

import stat
import struct
import time
import tracemalloc
import zipfile

import pytest

from models.dataset.archive import read_members
from models.dataset.errors import ArchiveUnreadable, DatasetRefused, LimitExceeded, MemberDamaged, UnsafeArchive
from models.dataset.ingest import ingest
from models.dataset.limits import Limits


def contents(source, limits=None):
    members = read_members(source, limits or Limits())
    return {member.name: b"".join(member.chunks()) for member in members if not member.is_folder}


def patched(path, old: bytes, new: bytes):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


def directory_field(path, offset: int, form: str, value: int):
    """Overwrite a field of the first entry of the zip's directory."""
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, content.index(b"PK\x01\x02") + offset, value)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "ants/../../evil.jpg", "/tmp/evil.jpg", "ants\\evil.jpg", "C:/evil.jpg"]
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, make_zip, name):
    with pytest.raises(UnsafeArchive):
        contents(make_zip(tmp_path / "slip.zip", {"ants/1.jpg": b"one", name: b"evil"}))


def test_a_name_with_a_nul_is_refused_though_zipfile_cuts_it_there(tmp_path, make_zip):
    path = patched(make_zip(tmp_path / "nul.zip", {"ants/1.jpg_.exe": b"x"}), b"1.jpg_.exe", b"1.jpg\0.exe")
    with pytest.raises(UnsafeArchive, match="not seen, U\\+0000"):
        contents(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        entry = zipfile.ZipInfo("ants/1.jpg")
        entry.external_attr = (kind | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(UnsafeArchive, match="a link or a device"):
        contents(tmp_path / "link.zip")


def test_encrypted_members_are_refused(tmp_path, make_zip):
    path = directory_field(make_zip(tmp_path / "locked.zip", {"ants/1.jpg": b"one"}), 8, "<H", 0x1)
    with pytest.raises(ArchiveUnreadable, match=r"'ants/1\.jpg' is encrypted"):
        contents(path)


@pytest.mark.parametrize(("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "LZMA")])
def test_methods_that_inflate_without_bound_are_refused_unread(tmp_path, method, name):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", method) as archive:
        archive.writestr("ants/1.jpg", bytes(10_000_000))
    with pytest.raises(ArchiveUnreadable, match=f"compressed by {name}"):
        contents(tmp_path / "bomb.zip")


def test_a_bomb_is_refused_by_what_its_directory_admits_before_anything_is_read(tmp_path, make_zip):
    path = make_zip(tmp_path / "bomb.zip", {f"ants/{n}.jpg": bytes(20_000_000) for n in range(2)})
    assert path.stat().st_size < 100_000
    with pytest.raises(LimitExceeded) as caught:
        next(read_members(path, Limits()))
    assert caught.value.limit == "expansion"


def test_a_bomb_whose_directory_claims_little_yields_no_more_than_that(tmp_path, make_zip):
    path = make_zip(tmp_path / "bomb.zip", {"ants/1.jpg": bytes(20_000_000), "ants/2.jpg": b"two"})
    directory_field(path, 24, "<I", 100)
    tracemalloc.start()
    members = read_members(path, Limits())
    with pytest.raises(MemberDamaged, match="CRC"):
        b"".join(next(members).chunks())
    assert b"".join(next(members).chunks()) == b"two"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_entries_that_share_their_bytes_are_counted_each_time(tmp_path, make_zip):
    """The bomb without recursion: many entries of the directory point at one compressed kernel."""
    path = make_zip(tmp_path / "kernel.zip", {"ants/00.jpg": bytes(1_000_000)})
    content = path.read_bytes()
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entry = content[start:end]
    entries = b"".join(entry.replace(b"00.jpg", b"%02d.jpg" % n) for n in range(90))
    tail = bytearray(content[end:])
    struct.pack_into("<HHI", tail, 8, 90, 90, len(entries))
    path.write_bytes(content[:start] + entries + tail)
    with pytest.raises(LimitExceeded) as caught:
        contents(path)
    assert caught.value.limit == "expansion"


def test_a_zip_within_a_zip_is_not_opened(tmp_path, make_zip):
    inner = make_zip(tmp_path / "inner.zip", {"bomb": bytes(50_000_000)}).read_bytes()
    outer = make_zip(tmp_path / "outer.zip", {f"{n}.zip": inner for n in range(16)})
    assert set(contents(outer).values()) == {inner}


@pytest.mark.parametrize(
    ("name", "count", "most_memory"), [("a", 1_000_000, 200_000_000), ("a" * 200, 220_000, 5_000_000)]
)
def test_a_million_entries_are_refused_without_a_million_objects(tmp_path, make_zip, name, count, most_memory):
    path = make_zip(tmp_path / "many.zip", {name: b""})
    content = path.read_bytes()
    start, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    entries = content[start:end] * count
    tail = bytearray(content[end:])
    struct.pack_into("<HHI", tail, 8, 0xFFFF, 0xFFFF, len(entries))
    path.write_bytes(content[:start] + entries + tail)
    del entries, content
    tracemalloc.start()
    with pytest.raises(LimitExceeded) as caught:
        contents(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.limit == "members"
    assert peak < most_memory


def test_one_damaged_member_leaves_the_others_readable(tmp_path):
    path = tmp_path / "torn.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ants/1.jpg", b"the first picture")
        archive.writestr("ants/2.jpg", b"the second picture")
    patched(path, b"the first picture", b"the fxrst picture")
    members = read_members(path, Limits())
    with pytest.raises(MemberDamaged, match="CRC-32"):
        list(next(members).chunks())
    assert b"".join(next(members).chunks()) == b"the second picture"


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_a_zip_cut_short_is_refused(tmp_path, make_zip, kept):
    path = make_zip(tmp_path / "cut.zip", {f"ants/{n}.jpg": b"x" * n for n in range(50)})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ArchiveUnreadable, match="damaged or cut short"):
        contents(path)


def test_names_are_read_as_utf8_even_where_macos_does_not_declare_it(tmp_path, make_zip):
    path = make_zip(tmp_path / "mac.zip", {"caf__/1.jpg": b"x"})
    patched(path, b"caf__", "café".encode())
    (member,) = read_members(path, Limits())
    assert (member.name, member.garbled) == ("café/1.jpg", False)


def test_names_in_an_old_code_page_are_read_and_told(tmp_path, make_zip):
    path = patched(make_zip(tmp_path / "dos.zip", {"caf_/1.jpg": b"x"}), b"caf_", "café".encode("cp437"))
    (member,) = read_members(path, Limits())
    assert (member.name, member.garbled) == ("café/1.jpg", True)


def test_names_that_claim_utf8_and_are_not_make_the_zip_unreadable(tmp_path, make_zip):
    path = make_zip(tmp_path / "lie.zip", {"é/1.jpg": b"x"})
    patched(path, "é".encode(), b"\xff\xfe")
    with pytest.raises(ArchiveUnreadable):
        contents(path)


def test_a_name_that_is_empty_is_refused(tmp_path, make_zip):
    """zipfile itself ends with an IndexError where it is asked whether that is a folder."""
    path = make_zip(tmp_path / "empty.zip", {"ants/1.jpg": b"x"})
    with zipfile.ZipFile(path, "a") as archive, archive.open(zipfile.ZipInfo(""), "w") as member:
        member.write(b"y")
    with pytest.raises(UnsafeArchive, match="names no file"):
        contents(path)


def test_a_hundred_thousand_empty_members_cost_moments(tmp_path, make_zip):
    """Once they cost a hundred times what the standard library needs to open each of them; now less than twice."""
    path = make_zip(tmp_path / "empty.zip", {f"{n % 2}/{n}.png": b"" for n in range(20_000)})
    started = time.process_time()
    with zipfile.ZipFile(path) as archive:
        assert not any(archive.read(entry) for entry in archive.infolist())
    plainly_read = time.process_time()
    with pytest.raises(DatasetRefused, match="no picture that can be used"):
        ingest(path, tmp_path / "dataset")
    assert time.process_time() - plainly_read < 8 * (plainly_read - started)
