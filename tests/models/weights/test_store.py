"""The weights folder: torchvision's layout from a real server, checksums, offline, several processes."""

import hashlib
import multiprocessing
import random

import pytest

from models.errors import WeightsCorrupt, WeightsNotFound
from models.spec import Preprocessing
from models.weights import download as downloading
from models.weights.record import read_record
from models.weights.source import Checksum, WeightsSource
from models.weights.store import WeightsStore

CONTENT = random.Random(1).randbytes(400_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILENAME = f"resnet18-{SHA256[:8]}.pth"
PATH = f"/models/{FILENAME}"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(downloading, "PAUSE_S", 0.0)


def source(**changes) -> WeightsSource:
    values = {
        "architecture": "resnet18",
        "name": "imagenet1k_v1",
        "origin": "torchvision",
        "filename": FILENAME,
        "url": f"https://download.pytorch.org{PATH}",
        "preprocessing": Preprocessing(),
        "checksum": Checksum(sha256_prefix=SHA256[:8]),
    }
    return WeightsSource(**{**values, **changes})


def left_behind(folder) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and ".locks" not in p.parts)


def test_a_file_is_pulled_from_a_mirror_under_the_publishers_path(server, tmp_path):
    server.files[PATH] = CONTENT
    store = WeightsStore(tmp_path, server.url)
    assert store.pull(source()).read_bytes() == CONTENT
    assert read_record(tmp_path / FILENAME)["sha256"] == SHA256


def test_a_file_that_is_there_is_not_asked_for_again(server, tmp_path):
    server.files[PATH] = CONTENT
    store = WeightsStore(tmp_path, server.url)
    store.pull(source())
    store.pull(source())
    assert len(server.requests) == 1


def test_a_broken_download_is_resumed_and_verified(server, tmp_path):
    server.files[PATH] = CONTENT
    server.cut_after[PATH] = 100_000
    file = WeightsStore(tmp_path, server.url).fetch(source())
    assert file.sha256 == SHA256
    assert server.ranges(PATH) == [None, "bytes=100000-"]


def test_wrong_bytes_are_refused_with_both_checksums_and_leave_nothing_behind(server, tmp_path):
    server.files[PATH] = b"x" * 1000
    with pytest.raises(WeightsCorrupt, match=f"expected {SHA256[:8]}") as error:
        WeightsStore(tmp_path, server.url).pull(source())
    assert hashlib.sha256(b"x" * 1000).hexdigest() in str(error.value)
    assert left_behind(tmp_path) == []


def test_a_corrupted_copy_in_the_folder_is_refused_and_kept(tmp_path):
    damaged = bytearray(CONTENT)
    damaged[1234] ^= 1
    (tmp_path / FILENAME).write_bytes(damaged)
    with pytest.raises(WeightsCorrupt, match="is not the published file"):
        WeightsStore(tmp_path, offline=True).pull(source())
    assert left_behind(tmp_path) == [FILENAME]


def test_a_truncated_copy_is_refused_with_its_size(tmp_path):
    (tmp_path / FILENAME).write_bytes(CONTENT[:1000])
    with pytest.raises(WeightsCorrupt, match="1000 bytes"):
        WeightsStore(tmp_path, offline=True).pull(source())


def test_offline_and_absent_names_the_file_and_where_it_is_published_but_no_folder_of_this_machine(tmp_path):
    with pytest.raises(WeightsNotFound) as error:
        WeightsStore(tmp_path, offline=True).pull(source())
    text = str(error.value)
    assert FILENAME in text
    assert str(tmp_path) not in text
    assert f"https://download.pytorch.org{PATH}" in text


def test_what_a_mirror_lacks_is_told_without_its_address(server, tmp_path):
    with pytest.raises(WeightsNotFound, match="on the mirror: the host answered 404") as error:
        WeightsStore(tmp_path, server.url).pull(source())
    assert server.url not in str(error.value)
    server.files[PATH] = b"other bytes"
    with pytest.raises(WeightsCorrupt, match=r"^the mirror gave 11 bytes") as error:
        WeightsStore(tmp_path, server.url).pull(source())
    assert server.url not in str(error.value)


def test_a_host_that_lacks_the_file_is_reported_with_its_answer(server, tmp_path):
    with pytest.raises(WeightsNotFound, match="404"):
        WeightsStore(tmp_path, server.url).pull(source())


def test_a_file_put_there_by_hand_is_used_without_the_network_from_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / FILENAME).write_bytes(CONTENT)
    tmp_path.chmod(0o555)
    try:
        file = WeightsStore(tmp_path, "http://127.0.0.1:1").fetch(source())
    finally:
        tmp_path.chmod(0o755)
    assert file.verified_by == "the digits in the published file name"
    assert [p.name for p in tmp_path.iterdir()] == [FILENAME]


def test_a_hub_file_is_checked_against_the_header_of_its_host(server, tmp_path):
    hub = source(
        origin="timm",
        filename="timm/resnet18.a1_in1k/model.safetensors",
        url="https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors",
        checksum=Checksum(header="X-Linked-Etag"),
    )
    path = "/timm/resnet18.a1_in1k/resolve/main/model.safetensors"
    server.redirects[path] = server.url + "/lfs"
    server.headers[path] = {"X-Linked-Etag": f'"{SHA256}"'}
    server.files["/lfs"] = CONTENT
    store = WeightsStore(tmp_path, server.url)
    assert store.pull(hub) == tmp_path / hub.filename
    assert read_record(tmp_path / hub.filename)["verified_by"] == "the host's X-Linked-Etag header"
    server.files["/lfs"] = CONTENT + b"!"
    (tmp_path / hub.filename).unlink()
    with pytest.raises(WeightsCorrupt, match="X-Linked-Etag"):
        store.pull(hub)


def test_a_file_without_a_published_checksum_is_held_to_what_first_came(server, tmp_path):
    bare = source(checksum=Checksum())
    server.files[PATH] = CONTENT
    store = WeightsStore(tmp_path, server.url)
    assert store.fetch(bare).verified_by == "the sha256 recorded when the file came"
    (tmp_path / FILENAME).write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsCorrupt, match="recorded when the file came"):
        store.fetch(bare)


def _pull_in_a_process(folder, url, results) -> None:
    results.put(WeightsStore(folder, url).pull(source()).stat().st_size)


def test_several_processes_fetch_a_file_once(server, tmp_path):
    server.files[PATH] = CONTENT
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    workers = [context.Process(target=_pull_in_a_process, args=(tmp_path, server.url, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    sizes = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert sizes == [len(CONTENT)] * 3
    assert len(server.requests) == 1
