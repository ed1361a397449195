"""Copies of remote folders: checked, bounded, shared by threads and processes; over a folder, memory and S3."""

import hashlib
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage.blobs import BlobStore
from storage.cache import FolderCache
from storage.errors import BlobsUnavailable, NotFound

MakeCache = Callable[..., FolderCache]


def checksums(folder: Path) -> Mapping[str, str]:
    files: dict[str, str] = json.loads((folder / "manifest.json").read_text())["files"]
    return files


@pytest.fixture(params=["memory", "s3"])
def blobs(request: pytest.FixtureRequest) -> BlobStore:
    url = f"memory://{uuid.uuid4().hex}" if request.param == "memory" else request.getfixturevalue("s3_url")
    return BlobStore(url)


@pytest.fixture
def make_cache(blobs: BlobStore, tmp_path: Path) -> MakeCache:
    return lambda budget=10**9: FolderCache(blobs, tmp_path / "cache", budget)


def publish(blobs: BlobStore, prefix: str, size: int = 4000) -> dict[str, bytes]:
    files = {"model.onnx": os.urandom(size), "plots/roc.svg": b"<svg/>"}
    for name, content in files.items():
        blobs.put_bytes(f"{prefix}/{name}", content)
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    blobs.put_bytes(f"{prefix}/manifest.json", json.dumps({"files": listed}).encode())
    return files


def content(folder: Path) -> dict[str, bytes]:
    """What lies there besides the manifest."""
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found.pop("manifest.json")
    return found


def spy(blobs: BlobStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that are fetched from now on."""
    fetched: list[str] = []
    get_files = blobs.get_files

    def noted(files: object) -> None:
        pairs = list(files)  # type: ignore[call-overload]
        fetched.extend(key for key, _ in pairs)
        get_files(pairs)

    monkeypatch.setattr(blobs, "get_files", noted)
    return fetched


def test_blobs_on_this_machine_are_not_copied(tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    publish(blobs, "models/1")
    cache = FolderCache(blobs, tmp_path / "cache", 1)

    with cache.hold("models/1/", checksums) as folder:
        assert folder == tmp_path / "blobs" / "models" / "1"
    assert not (tmp_path / "cache").exists()
    with pytest.raises(NotFound):
        cache.hold("models/2", checksums)


def test_a_folder_is_fetched_once(
    blobs: BlobStore, make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = publish(blobs, "models/1")
    fetched = spy(blobs, monkeypatch)
    for cache in (make_cache(), make_cache()):
        with cache.hold("models/1/", checksums) as folder:
            assert content(folder) == files

    assert sorted(fetched) == ["models/1/model.onnx", "models/1/plots/roc.svg"]


def test_many_threads_fetch_it_once(
    blobs: BlobStore, make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = publish(blobs, "models/1")
    fetched = spy(blobs, monkeypatch)
    cache = make_cache()
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda _: cache.hold("models/1", checksums), range(8)))

    assert len({one.path for one in held}) == 1
    assert content(held[0].path) == files
    assert len(fetched) == 2
    for one in held:
        one.release()


def test_a_folder_without_its_last_file_is_not_there(blobs: BlobStore, make_cache: MakeCache) -> None:
    blobs.put_bytes("models/1/model.onnx", b"x")
    for prefix in ("models/1", "nothing"):
        with pytest.raises(NotFound) as caught:
            make_cache().hold(prefix, checksums)
        assert caught.value.kind == "folder"


@pytest.mark.parametrize("harm", [b"", b"another", None])
def test_a_file_that_was_damaged_on_the_disk_is_fetched_again_and_no_other(
    blobs: BlobStore, make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch, harm: bytes | None
) -> None:
    files = publish(blobs, "models/1")
    with make_cache().hold("models/1", checksums) as folder:
        damaged = folder / "model.onnx"
    damaged.unlink()
    if harm is not None:
        damaged.write_bytes(harm)
    fetched = spy(blobs, monkeypatch)

    with make_cache().hold("models/1", checksums) as folder:
        assert content(folder) == files
    assert fetched == ["models/1/model.onnx"]


def test_a_damaged_list_of_checksums_is_fetched_again(blobs: BlobStore, make_cache: MakeCache) -> None:
    files = publish(blobs, "models/1")
    with make_cache().hold("models/1", checksums) as folder:
        (folder / "manifest.json").write_text("{ half")

    with make_cache().hold("models/1", checksums) as folder:
        assert content(folder) == files
        assert checksums(folder).keys() == files.keys()


@pytest.mark.parametrize("is_of_the_right_size", [True, False])
def test_what_differs_in_the_store_itself_is_refused_until_it_is_right_again(
    blobs: BlobStore, make_cache: MakeCache, is_of_the_right_size: bool
) -> None:
    right = publish(blobs, "models/1")["model.onnx"]
    blobs.put_bytes("models/1/model.onnx", b"?" * len(right) if is_of_the_right_size else b"rotten")
    for _ in range(2):
        with pytest.raises(BlobsUnavailable, match=r"model\.onnx.*damaged"):
            make_cache().hold("models/1", checksums)

    files = publish(blobs, "models/1")
    with make_cache().hold("models/1", checksums) as folder:
        assert content(folder) == files


def test_an_interrupted_fetch_is_gone_on_with(
    blobs: BlobStore, make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a kill between the files and the mark leaves it, and with a file of the right size and wrong content."""
    files = publish(blobs, "models/1")
    with make_cache().hold("models/1", checksums) as folder:
        pass
    (folder / "manifest.json").unlink()
    (folder / "plots" / "roc.svg").unlink()
    fetched = spy(blobs, monkeypatch)
    with make_cache().hold("models/1", checksums):
        assert content(folder) == files
    assert fetched == ["models/1/plots/roc.svg"]


def test_the_least_recently_used_goes_first(blobs: BlobStore, make_cache: MakeCache) -> None:
    for name in "abc":
        publish(blobs, name)
    cache = make_cache(budget=9000)
    paths = {}
    for name in ("a", "b", "a", "c"):
        with cache.hold(name, checksums) as paths[name]:
            assert paths[name].is_dir()

    assert [name for name in "abc" if paths[name].exists()] == ["a", "c"]


def test_what_is_in_use_stays_and_goes_when_it_is_released(blobs: BlobStore, make_cache: MakeCache) -> None:
    files = {name: publish(blobs, name) for name in "abc"}
    cache = make_cache(budget=5000)
    first = cache.hold("a", checksums)
    other = make_cache(budget=5000)
    second = other.keep("b", checksums)
    assert (content(first.path), content(second)) == (files["a"], files["b"])

    first.release()
    with cache.hold("c", checksums) as third:
        assert content(third) == files["c"]
    assert not first.path.exists()
    assert second.exists()
    other.close()


def test_a_folder_larger_than_the_budget_is_fetched_all_the_same(blobs: BlobStore, make_cache: MakeCache) -> None:
    files = publish(blobs, "large", 50_000)

    with make_cache(budget=1000).hold("large", checksums) as folder:
        assert content(folder) == files


def test_a_whole_copy_serves_while_the_store_is_away(
    blobs: BlobStore, make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = publish(blobs, "models/1")
    with make_cache().hold("models/1", checksums) as folder:
        pass

    def away(key: str) -> bytes:
        raise BlobsUnavailable(key)

    monkeypatch.setattr(blobs, "get_bytes", away)
    with make_cache().hold("models/1", checksums) as folder:
        assert content(folder) == files
    (folder / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(BlobsUnavailable):
        make_cache().hold("models/1", checksums)


HOLDER = """
import sys, json
from pathlib import Path
from storage.blobs import BlobStore
from storage.cache import FolderCache
checksums = lambda folder: json.loads((folder / "manifest.json").read_text())["files"]
cache = FolderCache(BlobStore(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
print(cache.keep(sys.argv[4], checksums), flush=True)
sys.stdin.read()
"""


def test_another_process_keeps_its_folder_until_it_is_killed(s3_url: str, tmp_path: Path) -> None:
    blobs = BlobStore(s3_url)
    for name in "abc":
        publish(blobs, name)
    command = [sys.executable, "-c", HOLDER, s3_url, str(tmp_path / "cache"), "5000", "a"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        kept = Path(holder.stdout.readline().strip())
        cache = FolderCache(blobs, tmp_path / "cache", 5000)
        cache.hold("b", checksums).release()
        assert kept.is_dir()
        holder.kill()
        holder.wait()
    cache.hold("c", checksums).release()
    assert not kept.exists()


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.1, 0.3])
def test_a_process_that_is_killed_while_it_fetches_leaves_nothing_torn(
    s3_url: str, tmp_path: Path, after_s: float
) -> None:
    blobs = BlobStore(s3_url)
    files = publish(blobs, "a", 20_000_000)
    command = [sys.executable, "-c", HOLDER, s3_url, str(tmp_path / "cache"), "1000000000", "a"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as fetcher:
        while not (tmp_path / "cache").exists() and fetcher.poll() is None:
            threading.Event().wait(0.005)
        threading.Event().wait(after_s)
        fetcher.kill()

    with FolderCache(blobs, tmp_path / "cache", 10**9).hold("a", checksums) as folder:
        assert content(folder) == files


def test_eviction_under_load_never_takes_a_folder_from_its_user(blobs: BlobStore, make_cache: MakeCache) -> None:
    files = {name: publish(blobs, name) for name in "abcd"}

    def use(number: int) -> None:
        cache = make_cache(budget=9000)
        for turn in range(10):
            name = "abcd"[(number + turn * (number + 1)) % 4]
            with cache.hold(name, checksums) as folder:
                assert content(folder) == files[name]

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(use, number) for number in range(4)]:
            done.result()


def test_what_a_folder_shares_comes_from_where_it_lies_or_from_a_copy_of_that(
    blobs: BlobStore, make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = publish(blobs, "sets/1")
    own = {"own.txt": b"mine"}
    for name, data in own.items():
        blobs.put_bytes(f"sets/2/{name}", data)
    shared = {"model.onnx": files["model.onnx"], **own}
    listed = {name: hashlib.sha256(data).hexdigest() for name, data in shared.items()}
    blobs.put_bytes("sets/2/manifest.json", json.dumps({"files": listed}).encode())
    with make_cache().hold("sets/2", checksums, sources=("sets/1",)) as folder:
        assert content(folder) == shared
    fetched = spy(blobs, monkeypatch)
    with make_cache().hold("sets/2", checksums, sources=("sets/1",)):
        assert fetched == []
    (folder / "model.onnx").write_bytes(b"damaged")
    with make_cache().hold("sets/2", checksums, sources=("sets/1",)) as folder:
        assert (content(folder), fetched) == (shared, ["sets/1/model.onnx"])

    blobs.put_bytes("sets/3/manifest.json", json.dumps({"files": listed}).encode())
    blobs.put_bytes("sets/3/own.txt", b"mine")
    with make_cache().hold("sets/1", checksums):
        fetched.clear()
        with make_cache().hold("sets/3", checksums, sources=("sets/1",)) as folder:
            assert (content(folder), fetched) == (shared, ["sets/3/own.txt"])


def test_a_shared_file_that_is_gone_is_told(blobs: BlobStore, make_cache: MakeCache) -> None:
    listed = {"files": {"gone.txt": hashlib.sha256(b"").hexdigest()}}
    blobs.put_bytes("sets/2/manifest.json", json.dumps(listed).encode())
    publish(blobs, "sets/1")
    for _ in range(2):
        with pytest.raises(BlobsUnavailable, match=r"gone\.txt"):
            make_cache().hold("sets/2", checksums, sources=("sets/1",))


def test_the_folders_of_a_store_on_this_machine_are_named(tmp_path: Path) -> None:
    blobs = BlobStore(str(tmp_path / "blobs"))
    cache = FolderCache(blobs, tmp_path / "cache", 10**9)
    assert cache.folders_of(["sets/1"]) == (tmp_path / "blobs" / "sets" / "1",)
