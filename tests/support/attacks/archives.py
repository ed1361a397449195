"""Zips and tars that lie about names, sizes and kinds, that expand, or that were damaged on their way."""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial

from support.attacks.attack import Attack, file, mutations
from support.colours import picture

FAMILY = "archive"
Files = Mapping[str, bytes]

NAMES = (
    "",
    "/",
    ".",
    "..",
    "../x.png",
    "a/../../x.png",
    "/etc/x.png",
    "//x.png",
    "\\x.png",
    "a\\..\\..\\x.png",
    "C:x.png",
    "./C:/x.png",
    "~/x.png",
    "a\x00.png",
    "a\n.png",
    "a\x1b[2J.png",
    "a\u202egnp.exe",
    "a\u2066.png",
    "\ufeffa.png",
    "\u3164/1.png",
    "a/" * 16 + "x.png",
    "a/" * 600 + "x.png",
    "a" * 2_000 + ".png",
    "a" * 300 + "/" + "b" * 300 + ".png",
    "con.png",
    "nul",
    "%2e%2e/x.png",
    "..%2fx.png",
    "a/./b/.//c.png",
    "a" * 60_000,
    "e\u0301/1.png",
    "\u00e9/1.png",
    " /1.png",
    "a /1.png",
    "a./1.png",
    "-rf/1.png",
    "$(id)/1.png",
    "`id`/1.png",
    "a;b/1.png",
    "'/1.png",
    '"/1.png',
    "train/x.png",
    "Train/a/1.png",
    "manifest.csv",
    "labels.csv/1.png",
    "__MACOSX/a/1.png",
    ".hidden/1.png",
)


@cache
def pictures() -> Files:
    return {f"{label}/{n}.png": picture(label, noise=n + 1) for label in ("red", "green") for n in range(2)}


def zipped(files: Files, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.filename = entry.orig_filename = name  # else a NUL would end it
            entry.compress_type = method
            with archive.open(entry, "w") as member:
                member.write(content)
    return buffer.getvalue()


def tarred(files: Files, form: int = tarfile.PAX_FORMAT, *others: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in others:
            archive.addfile(member)
    return buffer.getvalue()


def tar_special(kind: bytes, name: str = "red/x.png", link: str = "", **fields: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    for field, value in fields.items():
        setattr(member, field, value)
    return tarred(pictures(), tarfile.PAX_FORMAT, member)


def tar_header(offset: int, field: bytes) -> bytes:
    """A field of the first header overwritten, its checksum made right again."""
    data = bytearray(tarred(pictures(), tarfile.USTAR_FORMAT))
    data[offset : offset + len(field)] = field
    data[148:156] = b" " * 8
    data[148:156] = b"%06o\0 " % sum(data[:512])
    return bytes(data)


def tar_pax(**headers: str) -> bytes:
    member = tarfile.TarInfo("red/x.png")
    member.pax_headers = headers
    return tarred(pictures(), tarfile.PAX_FORMAT, member)


def zip_field(offset: int, form: str, value: int, signature: bytes = b"PK\x01\x02") -> bytes:
    data = bytearray(zipped(pictures()))
    struct.pack_into(form, data, data.index(signature) + offset, value)
    return bytes(data)


def zip_mode(mode: int) -> bytes:
    return zip_field(38, "<I", mode << 16)


def zip_of_shared_bytes(count: int) -> bytes:
    """Every entry of its directory points at the same compressed bytes."""
    data = zipped({"red/000000.png": bytes(1_000_000)})
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entries = b"".join(data[start:end].replace(b"000000", b"%06d" % n) for n in range(count))
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, min(count, 0xFFFF), min(count, 0xFFFF), len(entries))
    return data[:start] + entries + bytes(tail)


def many(count: int, content: bytes = b"") -> Files:
    return {f"{n % 2}/{n}.png": content for n in range(count)}


MADE: Mapping[str, Callable[[], bytes]] = {
    "a good zip": lambda: zipped(pictures()),
    "a good tar": lambda: tarred(pictures()),
    "a good tar.gz": lambda: gzip.compress(tarred(pictures())),
    "an empty zip": lambda: zipped({}),
    "an empty tar": lambda: tarred({}),
    "a gzip of nothing": lambda: gzip.compress(b""),
    "a gzip of a zip": lambda: gzip.compress(zipped(pictures())),
    "a gzip of a gzip": lambda: gzip.compress(gzip.compress(tarred(pictures()))),
    "a zip bomb": lambda: zipped({f"red/{n}.png": bytes(15_000_000) for n in range(4)}),
    "a tar.gz bomb": lambda: gzip.compress(tarred({f"red/{n}.png": bytes(15_000_000) for n in range(6)})),
    "a gzip bomb without a tar": lambda: gzip.compress(bytes(300_000_000), 1),
    "zips that hold zips": lambda: zipped({f"{n}/x.zip": zipped({"a": bytes(10**7)}) for n in range(8)}),
    "a zip of shared bytes": lambda: zip_of_shared_bytes(500),
    "a zip of 100,000 shared bytes": lambda: zip_of_shared_bytes(100_000),
    "a zip of 60,000 empty members": lambda: zipped(many(60_000)),
    "a tar of 60,000 empty members": lambda: tarred(many(60_000), tarfile.USTAR_FORMAT),
    "a zip of 250,000 entries": lambda: zip_of_shared_bytes(250_000),
    "a zip of copies": lambda: zipped(many(5_000, picture("red"))),
    "a member larger than allowed": lambda: zipped({"red/1.png": bytes(17 * 2**20)}),
    **{
        f"a zip by method {method}": partial(zipped, {"red/1.png": bytes(10**6)}, method)
        for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    },
    **{
        f"a zip whose {what} is {value:#x}": partial(zip_field, offset, form, value)
        for what, offset, form in (
            ("flag", 8, "<H"),
            ("method", 10, "<H"),
            ("checksum", 16, "<I"),
            ("packed size", 20, "<I"),
            ("size", 24, "<I"),
            ("name's length", 28, "<H"),
            ("extra's length", 30, "<H"),
            ("disk", 34, "<H"),
            ("offset", 42, "<I"),
        )
        for value in (0, 1, 0x41, 0x7FFF, 0xFFFF)
    },
    **{
        f"a zip of {kind} {value}": partial(zip_field, 8 + 2 * n, "<H", value, b"PK\x05\x06")
        for n, kind in enumerate(("entries here", "entries"))
        for value in (0, 3, 0xFFFF)
    },
    **{
        f"a zip of mode {mode:o}": partial(zip_mode, mode)
        for mode in (stat.S_IFLNK | 0o777, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, 0o6777)
    },
    **{
        f"a tar with a {what}": partial(tar_special, kind, link=link)
        for what, kind, link in (
            ("symbolic link", tarfile.SYMTYPE, "/etc/passwd"),
            ("link up", tarfile.SYMTYPE, "../.."),
            ("hard link", tarfile.LNKTYPE, "red/0.png"),
            ("hard link out", tarfile.LNKTYPE, "/etc/x"),
            ("device", tarfile.CHRTYPE, ""),
            ("disk", tarfile.BLKTYPE, ""),
            ("pipe", tarfile.FIFOTYPE, ""),
            ("sparse file", tarfile.GNUTYPE_SPARSE, ""),
            ("kind of its own", b"Z", ""),
            ("long name", tarfile.GNUTYPE_LONGNAME, ""),
            ("long link", tarfile.GNUTYPE_LONGLINK, ""),
        )
    },
    **{
        f"a tar whose {what} is {field!r}": partial(tar_header, offset, field)
        for what, offset in (("mode", 100), ("size", 124), ("time", 136))
        for field in (
            b"77777777777\0"[:8],
            b"\x80" + b"\xff" * 7,
            b"\xff" * 8,
            b"-0000001",
            b"xxxxxxxx",
            b"\0" * 8,
        )
    },
    **{
        f"a tar with the header {name} = {value[:20]}": partial(tar_pax, **{name: value})
        for name, value in (
            ("size", "-1"),
            ("size", "9" * 30),
            ("size", "x"),
            ("path", "../../x"),
            ("path", "a\x00b"),
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.size", "99999999999"),
            ("GNU.sparse.map", "0,1"),
            ("GNU.sparse.name", "../x"),
            ("mtime", "nan"),
            ("mtime", "9" * 400),
            ("comment", "x" * 10**6),
            ("hdrcharset", "BINARY"),
            ("linkpath", "/etc/passwd"),
        )
    },
    **{
        f"a zip with the name {name[:20]!r} of {len(name)}": partial(
            lambda n: zipped({**pictures(), n: picture("red")}), name
        )
        for name in NAMES
    },
    **{
        f"a tar with the name {name[:20]!r} of {len(name)}": partial(
            lambda n: tarred({**pictures(), n: picture("red")}), name
        )
        for name in NAMES
        if name and "\x00" not in name
    },
    **{
        f"a manifest {text[:20]!r} of {len(text)}": partial(
            lambda t: zipped({**pictures(), "manifest.csv": t}), text
        )
        for text in (
            b"",
            b"file,label",
            b"\xff\xfe",
            b"file,label\n../../etc/passwd,a\n",
            b"file,label\n" + b"x" * 10**6,
            b'file,label\n"red/0.png',
            b"file,label,split\nred/0.png,a,\nred/1.png,b,train\n",
            b"file,label\n" + b"red/0.png,a\n" * 200_000,
            b"file," * 10_000,
            b"file,label\nred/0.png,a\x00b\n",
        )
    },
}


def attacks(scale: int) -> Iterator[Attack]:
    for name, content in MADE.items():
        yield file(FAMILY, name, "archive", content)
    valid = {name: MADE[name] for name in ("a good zip", "a good tar", "a good tar.gz")}
    yield from mutations(FAMILY, "archive", valid, 40 * scale)
