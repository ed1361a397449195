"""One suite for every place that blobs can lie in: a folder, memory, and S3 where s3fs and moto are installed."""

import os
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.blobs import BlobStore
from storage.errors import BlobsUnavailable, NotFound, StorageError


@pytest.fixture(params=["file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return (tmp_path / "blobs with a space").as_uri()
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    url: str = request.getfixturevalue("s3_url")
    return url


@pytest.fixture
def blobs(url: str) -> BlobStore:
    return BlobStore(url)


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    (folder / "plots").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"onnx" * 1000)
    (folder / "plots" / "roc.png").write_bytes(b"png")
    (folder / "manifest.json").write_text("{}")
    return folder


def test_what_was_put_is_there(blobs: BlobStore) -> None:
    blobs.put_bytes("a/b.bin", b"\x00\xff")

    assert blobs.get_bytes("a/b.bin") == b"\x00\xff"
    assert blobs.exists("a/b.bin") is True
    assert blobs.size("a/b.bin") == 2
    with blobs.open("a/b.bin") as file:
        assert file.read() == b"\x00\xff"


def test_a_file_is_put_as_a_copy(blobs: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(3_000_000))
    content = source.read_bytes()
    blobs.put_file("a/copy.bin", source)
    source.write_bytes(b"changed")

    assert blobs.get_bytes("a/copy.bin") == content


def test_putting_again_replaces(blobs: BlobStore) -> None:
    blobs.put_bytes("a", b"first, and longer")
    blobs.put_bytes("a", b"second")

    assert blobs.get_bytes("a") == b"second"
    assert blobs.list() == ["a"]


def test_an_empty_file_is_a_file(blobs: BlobStore) -> None:
    blobs.put_bytes("a", b"")

    assert (blobs.exists("a"), blobs.size("a"), blobs.get_bytes("a")) == (True, 0, b"")


def test_what_was_not_put_is_not_found(blobs: BlobStore) -> None:
    blobs.put_bytes("folder/file", b"x")
    for key in ("nothing", "folder", "folder/other", "folder/file/below"):
        assert blobs.exists(key) is False
        for read in (blobs.get_bytes, blobs.open, blobs.size):
            with pytest.raises(NotFound) as caught:
                read(key)
            assert (caught.value.kind, caught.value.name) == ("file", key)
        blobs.delete(key)
    assert blobs.list() == ["folder/file"]


def test_a_deleted_file_is_gone(blobs: BlobStore) -> None:
    blobs.put_bytes("a/b", b"x")
    blobs.put_bytes("a/c", b"x")

    blobs.delete("a/b")

    assert blobs.list() == ["a/c"]
    assert blobs.exists("a/b") is False


def test_keys_are_listed_in_order_below_a_folder(blobs: BlobStore) -> None:
    assert blobs.list() == []
    for key in ("b", "a/2", "a/10", "a/1/x", "ab/1", "a b/é"):
        blobs.put_bytes(key, b"x")

    assert blobs.list() == ["a b/é", "a/1/x", "a/10", "a/2", "ab/1", "b"]
    assert blobs.list("a") == blobs.list("a/") == ["a/1/x", "a/10", "a/2"]
    assert blobs.list("nothing") == []


def test_a_folder_is_there_once_something_lies_below_it(blobs: BlobStore) -> None:
    blobs.put_bytes("a/b/c", b"1")
    assert [name for name in ("a", "a/b", "a/b/c", "a/bc", "b") if blobs.has_folder(name)] == ["a", "a/b"]


def test_the_begin_of_a_file_is_enough(blobs: BlobStore) -> None:
    blobs.put_bytes("a", b"12345")
    assert [blobs.get_bytes("a", most) for most in (None, 2, 5, 100)] == [b"12345", b"12", b"12345", b"12345"]


def test_the_folders_of_a_folder_are_listed(blobs: BlobStore) -> None:
    for key in ("jobs/b/images/0", "jobs/a/upload", "jobs/file", "jobs2/c/d"):
        blobs.put_bytes(key, b"x")

    assert blobs.folders("jobs") == ["a", "b"]
    assert blobs.folders("jobs/a") == []
    assert blobs.folders("nothing") == []
    blobs.delete_prefix("jobs/b")
    assert blobs.folders("jobs") == ["a"]


def test_another_store_of_the_same_place_sees_every_change(blobs: BlobStore, url: str) -> None:
    other = BlobStore(url)
    assert other.list() == []
    blobs.put_bytes("a/1", b"x")
    assert other.list() == ["a/1"]
    blobs.put_bytes("a/2", b"x")
    assert other.list("a") == ["a/1", "a/2"]
    blobs.put_bytes("a/1", b"longer")
    assert other.size("a/1") == 6
    blobs.delete("a/1")
    assert other.exists("a/1") is False


def test_a_prefix_is_deleted_with_all_below_it_and_nothing_else(blobs: BlobStore) -> None:
    for key in ("a/1", "a/b/2", "ab/3", "c"):
        blobs.put_bytes(key, b"x")

    blobs.delete_prefix("a/")

    assert blobs.list() == ["ab/3", "c"]
    blobs.delete_prefix("a")
    blobs.delete_prefix("nothing/at/all")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        "./a",
        "a//b",
        "a\\b",
        "a\x00b",
        ".staging/x",
        "a//",
    ],
)
def test_no_key_leads_out_of_the_root(blobs: BlobStore, artifact: Path, tmp_path: Path, key: str) -> None:
    for call in (
        lambda: blobs.put_bytes(key, b"x"),
        lambda: blobs.put_file(key, artifact / "model.onnx"),
        lambda: blobs.put_folder(key, artifact),
        lambda: blobs.get_bytes(key),
        lambda: blobs.open(key),
        lambda: blobs.exists(key),
        lambda: blobs.size(key),
        lambda: blobs.delete(key),
        lambda: blobs.delete_prefix(key),
        lambda: blobs.folder_of(key),
        lambda: blobs.sizes(key) if key else blobs.folder_of(key),
        lambda: blobs.get_files([(key, tmp_path / "copy")]),
    ):
        with pytest.raises(StorageError, match="not a key"):
            call()
    assert blobs.list() == []


def test_a_folder_is_put_and_got(blobs: BlobStore, artifact: Path, tmp_path: Path) -> None:
    blobs.put_folder("models/ants/1/", artifact)

    assert blobs.list("models/ants/1") == [
        f"models/ants/1/{name}" for name in ("manifest.json", "model.onnx", "plots/roc.png")
    ]
    assert blobs.sizes("models/ants/1") == {
        f"models/ants/1/{name}": size
        for name, size in (("manifest.json", 2), ("model.onnx", 4000), ("plots/roc.png", 3))
    }
    blobs.get_files(
        [("models/ants/1/model.onnx", tmp_path / "a"), ("models/ants/1/plots/roc.png", tmp_path / "b")]
    )
    assert (tmp_path / "a").read_bytes() == (artifact / "model.onnx").read_bytes()
    assert (tmp_path / "b").read_bytes() == b"png"


def test_a_file_that_is_not_there_is_not_got(blobs: BlobStore, tmp_path: Path) -> None:
    blobs.put_bytes("a", b"x")

    with pytest.raises(NotFound):
        blobs.get_files([("a", tmp_path / "a"), ("b", tmp_path / "b")])


def test_a_folder_without_its_last_file_is_not_put(blobs: BlobStore, artifact: Path) -> None:
    (artifact / "manifest.json").unlink()

    with pytest.raises(StorageError, match=r"no manifest\.json"):
        blobs.put_folder("a", artifact)
    assert blobs.list() == []


def test_a_folder_put_again_has_the_new_files_only(blobs: BlobStore, artifact: Path) -> None:
    blobs.put_folder("a", artifact)
    blobs.put_bytes("ab/other", b"x")
    (artifact / "model.onnx").unlink()
    (artifact / "card.md").write_text("# Ants")
    blobs.put_folder("a", artifact)

    assert blobs.list() == ["a/card.md", "a/manifest.json", "a/plots/roc.png", "ab/other"]


def test_while_a_folder_is_put_it_is_not_complete(
    blobs: BlobStore, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when an older one was complete there before."""
    blobs.put_folder("a", artifact)
    put_file = blobs.put_file

    def killed(key: str, path: Path) -> None:
        assert key == "a/manifest.json"
        raise KeyboardInterrupt

    monkeypatch.setattr(blobs, "put_file", killed)
    with pytest.raises(KeyboardInterrupt):
        blobs.put_folder("a", artifact)
    assert blobs.exists("a/model.onnx")
    assert not blobs.exists("a/manifest.json")

    monkeypatch.setattr(blobs, "put_file", put_file)
    blobs.put_folder("a", artifact)
    assert blobs.exists("a/manifest.json")


# A folder


def test_a_folder_needs_no_url(tmp_path: Path) -> None:
    BlobStore(str(tmp_path / "a%20b")).put_bytes("x", b"x")

    assert (tmp_path / "a%20b" / "x").read_bytes() == b"x"
    assert BlobStore((tmp_path / "a%20b").as_uri()).list() == ["x"]


def test_a_prefix_has_a_folder_of_its_own_only_on_this_machine(tmp_path: Path) -> None:
    assert BlobStore(str(tmp_path / "blobs")).folder_of("models/1/") == tmp_path / "blobs" / "models" / "1"
    assert BlobStore("memory://x").folder_of("models/1") is None


def test_a_folder_goes_with_its_last_file(tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    for key in ("jobs/1/checkpoints/a", "jobs/1/checkpoints/b", "jobs/2/upload"):
        blobs.put_bytes(key, b"x")
    blobs.delete("jobs/2/upload")
    blobs.delete("jobs/1/checkpoints/a")
    assert (tmp_path / "blobs" / "jobs" / "1" / "checkpoints").is_dir()
    blobs.delete_prefix("jobs/1/checkpoints")
    assert not (tmp_path / "blobs" / "jobs").exists()
    assert (tmp_path / "blobs").is_dir()


def test_a_file_is_put_while_its_folder_is_removed_as_an_empty_one(tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))

    def come_and_go(name: str) -> None:
        for _ in range(200):
            blobs.put_bytes(f"folder/{name}", b"x")
            blobs.delete(f"folder/{name}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(come_and_go, "abcd"))
    assert blobs.list() == []


def test_a_killed_writer_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """Killed at any moment of its work, over and over; a reader in between never sees half a file."""
    blobs = BlobStore(str(tmp_path))
    size = 4_000_000
    blobs.put_bytes("a", b"0" * size)
    program = (
        "import sys; from storage.blobs import BlobStore\n"
        "blobs = BlobStore(sys.argv[1]); print('ready', flush=True)\n"
        f"for n in range(10**6): blobs.put_bytes('a', str(n % 10).encode() * {size})"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        seen = set()
        until = time.monotonic() + 1.5
        try:
            while time.monotonic() < until:
                content = blobs.get_bytes("a")
                assert len(content) == size
                assert len(set(content)) == 1
                seen.add(content[0])
        finally:
            writer.kill()

    assert len(seen) > 1
    content = blobs.get_bytes("a")
    assert len(content) == size
    assert blobs.list() == ["a"]


def test_what_killed_writers_left_is_swept(tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path))
    blobs.put_bytes("a", b"x")
    assert [*(tmp_path / ".staging").iterdir()] == []
    old, new = tmp_path / ".staging" / "old", tmp_path / ".staging" / "new"
    for leftover in (old, new):
        leftover.mkdir()
        (leftover / "0").write_bytes(b"half")
    # The folder of a large file is as old as the file's beginning.
    for path in (old, old / "0", new):
        os.utime(path, (0, 0))

    blobs.sweep()

    assert (old.exists(), new.exists()) == (False, True)
    assert blobs.list() == ["a"]


@pytest.mark.parametrize(
    "call", ["get_bytes", "exists", "size", "delete", "delete_prefix", "list", "folders", "open"]
)
def test_a_folder_that_is_away_is_not_an_empty_one(tmp_path: Path, call: str) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    blobs.put_bytes("a/b", b"x")
    (tmp_path / "blobs").rename(tmp_path / "elsewhere")
    (tmp_path / "blobs").touch()

    with pytest.raises(BlobsUnavailable, match="no folder"):
        getattr(blobs, call)("a/b")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path))
    with pytest.raises(BlobsUnavailable, match="no such file"):
        blobs.put_file("a", tmp_path / "no such file")

    assert blobs.list() == []
    assert [*(tmp_path / ".staging").iterdir()] == []


def test_a_place_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("a file where the folder should be")

    with pytest.raises(BlobsUnavailable, match="cannot be read or written"):
        BlobStore(str(tmp_path / "blobs")).put_bytes("a", b"x")
    with pytest.raises(BlobsUnavailable):
        BlobStore(str(tmp_path)).put_bytes("n" * 300, b"x")


def test_a_place_that_nobody_knows_is_refused() -> None:
    with pytest.raises(StorageError, match="nowhere"):
        BlobStore("nowhere://x")
