"""Attack files are made here, by hand where tarfile would not write them."""

import gzip
import io
import tarfile
import time
import tracemalloc

import pytest

from models.dataset.archive import read_members
from models.dataset.errors import ArchiveUnreadable, LimitExceeded, UnsafeArchive
from models.dataset.limits import Limits

END = bytes(2 * tarfile.BLOCKSIZE)


def contents(source, limits=None):
    members = read_members(source, limits or Limits())
    return {member.name: b"".join(member.chunks()) for member in members if not member.is_folder}


def block(
    name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, size: int | None = None, **fields
) -> bytes:
    """A header and its content, padded; `size` may lie."""
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.size = len(content) if size is None else size
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)


def written(path, *blocks: bytes, compress: bool = False):
    content = b"".join(blocks)
    path.write_bytes(gzip.compress(content, 6) if compress else content)
    return path


@pytest.fixture(params=[False, True], ids=["tar", "tar.gz"])
def compress(request):
    return request.param


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "ants/../../evil.jpg", "/tmp/evil.jpg", "ants\\evil.jpg", "x\n.jpg"]
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, compress, name):
    with pytest.raises(UnsafeArchive):
        contents(
            written(tmp_path / "slip", block("ants/1.jpg", b"one"), block(name, b"evil"), END, compress=compress)
        )


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE,
    ],
)
def test_links_devices_and_sparse_files_are_refused(tmp_path, kind):
    path = written(tmp_path / "link", block("ants/1.jpg", kind=kind, linkname="/etc/passwd"), END)
    with pytest.raises(UnsafeArchive, match="a link, a device or sparse"):
        contents(path)


def test_a_root_entry_is_no_member(tmp_path):
    root = block("./", kind=tarfile.DIRTYPE)
    assert contents(written(tmp_path / "dot", root, block("./ants/1.jpg", b"one"), END)) == {"ants/1.jpg": b"one"}


def test_what_is_skipped_counts_too(tmp_path):
    """A bomb in a member that nobody asks for, such as litter."""
    path = written(tmp_path / "bomb", block(".hidden", bytes(40_000_000)), block("a", b"x"), END, compress=True)
    with pytest.raises(LimitExceeded) as caught:
        list(read_members(path, Limits()))
    assert caught.value.limit == "expansion"


def test_what_follows_the_end_counts_too(tmp_path):
    path = written(tmp_path / "bomb", block("a", b"x"), END, bytes(40_000_000), compress=True)
    with pytest.raises(LimitExceeded) as caught:
        contents(path)
    assert caught.value.limit == "expansion"


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_giant_header_is_refused_without_reading_it_into_memory(tmp_path, kind):
    giant = block("pax", kind=kind, size=8_000_000_000)
    path = written(tmp_path / "giant", giant, bytes(20_000_000), compress=True)
    tracemalloc.start()
    with pytest.raises(ArchiveUnreadable, match="a header claims to be"):
        contents(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_a_header_that_stalls_the_parser_is_refused(tmp_path):
    path = written(tmp_path / "slow", *[block("pax", b"1" * 60_000, kind=tarfile.XHDTYPE)] * 20, END)
    start = time.process_time()
    with pytest.raises(ArchiveUnreadable, match="hundreds of digits"):
        contents(path)
    assert time.process_time() - start < 2


def test_a_chain_of_headers_is_refused(tmp_path):
    chain = block("pax", b"9 path=a\n", kind=tarfile.XHDTYPE) * 5000
    with pytest.raises(ArchiveUnreadable, match="recursion"):
        contents(written(tmp_path / "chain", chain, block("a", b"x"), END))


def test_a_negative_size_is_refused(tmp_path):
    header = bytearray(block("a", b"x")[: tarfile.BLOCKSIZE])
    header[124:136] = b"\xff" + (2**88 - 5120).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = written(tmp_path / "negative", block("first", b"y" * 9000), bytes(header), END)
    with pytest.raises((ArchiveUnreadable, UnsafeArchive)):
        contents(path)


def test_a_size_that_is_larger_than_the_archive_is_refused(tmp_path, compress):
    path = written(tmp_path / "short", block("a", b"x", size=5_000_000), END, compress=compress)
    with pytest.raises(ArchiveUnreadable, match="ends in the middle"):
        contents(path)
    with pytest.raises(ArchiveUnreadable, match="ends in the middle"):
        list(read_members(path, Limits()))


def test_more_members_than_allowed_are_refused_as_soon_as_they_are_too_many(tmp_path):
    entries = b"".join(block(f"ants/{n}", b"x") for n in range(3001)) + b"rubbish"
    with pytest.raises(LimitExceeded) as caught:
        contents(written(tmp_path / "many", entries), Limits(members=3000))
    assert caught.value.limit == "members"


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.8, 0.95])
def test_a_tar_cut_short_is_refused(tmp_path, make_tar, kept, compress):
    files = {f"ants/{n}.jpg": bytes([n]) * 3000 for n in range(30)}
    path = make_tar(tmp_path / ("cut.tar.gz" if compress else "cut.tar"), files)
    content = path.read_bytes()
    if not compress:
        content = content[: content.rindex(b"\x1d") + 1]  # tarfile pads with many more blocks of zeros
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ArchiveUnreadable, match="pack or send it again"):
        contents(path)


def test_a_tar_cut_exactly_between_two_files_is_refused(tmp_path):
    with pytest.raises(ArchiveUnreadable, match="the end is missing"):
        contents(written(tmp_path / "cut", block("ants/1.jpg", b"one"), block("ants/2.jpg", b"two")))


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    damaged = bytearray(block("ants/2.jpg", b"two"))
    damaged[0:4] = b"oops"
    with pytest.raises(ArchiveUnreadable, match=r"past 'ants/1\.jpg': a header is damaged"):
        contents(written(tmp_path / "torn", block("ants/1.jpg", b"one"), bytes(damaged), END))


def test_a_damaged_gzip_is_refused(tmp_path):
    path = written(tmp_path / "torn", block("ants/1.jpg", b"one" * 5000), END, compress=True)
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ArchiveUnreadable, match="CRC"):
        contents(path)


def test_a_gzip_that_holds_no_tar_is_refused(tmp_path):
    (tmp_path / "1.jpg.gz").write_bytes(gzip.compress(b"a picture" * 200))
    with pytest.raises(ArchiveUnreadable, match="its beginning"):
        contents(tmp_path / "1.jpg.gz")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_is_read(tmp_path, form):
    files = {"ants/1.jpg": b"one", "bees/" + "long" * 20 + "/" + "name" * 20 + ".jpg": b"two", "é/ß.jpg": b"three"}
    with tarfile.open(tmp_path / "any.tar", "w", format=form) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    assert contents(tmp_path / "any.tar") == files


def test_names_in_an_old_encoding_are_read_and_told(tmp_path):
    header = block("x", b"1")
    raw = bytearray(header)
    raw[0:9] = "café.jpg\0".encode("latin-1")
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw[: tarfile.BLOCKSIZE])
    (member,) = read_members(written(tmp_path / "old", bytes(raw), END), Limits())
    assert (member.name, member.garbled) == ("café.jpg", True)
