"""Files over real HTTP: whole, resumed, and refused."""

import hashlib
import random
from pathlib import Path

import pytest

from models.weights import download as downloading
from models.weights.download import DownloadFailed, download
from system.files import sha256_of

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(downloading, "PAUSE_S", 0.0)


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def test_a_file_arrives_with_its_sha256_and_its_progress_reported(server, tmp_path):
    server.files["/w.bin"] = CONTENT
    seen = []
    got = download(server.url + "/w.bin", tmp_path / "w.bin", progress=lambda *report: seen.append(report))
    assert (got.sha256, got.size) == (SHA256, len(CONTENT))
    assert got.part.read_bytes() == CONTENT
    assert seen[0] == ("w.bin", 0, len(CONTENT))
    assert seen[-1] == ("w.bin", len(CONTENT), len(CONTENT))


def test_a_connection_that_breaks_off_is_continued_where_it_broke(server, tmp_path):
    server.files["/w.bin"] = CONTENT
    server.cut_after["/w.bin"] = 1_200_000
    got = download(server.url + "/w.bin", tmp_path / "w.bin")
    assert got.sha256 == SHA256
    assert server.ranges("/w.bin") == [None, "bytes=1200000-"]


def test_a_part_left_by_an_earlier_process_is_continued(server, tmp_path, monkeypatch):
    server.files["/w.bin"] = CONTENT
    server.cut_after["/w.bin"] = 500_000
    monkeypatch.setattr(downloading, "ATTEMPTS", 1)
    with pytest.raises(DownloadFailed):
        download(server.url + "/w.bin", tmp_path / "w.bin")
    assert part_of(tmp_path / "w.bin").stat().st_size == 500_000
    assert download(server.url + "/w.bin", tmp_path / "w.bin").sha256 == SHA256
    assert server.ranges("/w.bin")[-1] == "bytes=500000-"


def test_a_part_of_a_file_that_has_changed_since_is_started_anew(server, tmp_path, monkeypatch):
    server.files["/w.bin"] = bytes(len(CONTENT))
    server.cut_after["/w.bin"] = 500_000
    monkeypatch.setattr(downloading, "ATTEMPTS", 1)
    with pytest.raises(DownloadFailed):
        download(server.url + "/w.bin", tmp_path / "w.bin")
    server.files["/w.bin"] = CONTENT
    got = download(server.url + "/w.bin", tmp_path / "w.bin")
    assert got.part.read_bytes() == CONTENT


def test_a_part_of_unknown_origin_is_not_continued(server, tmp_path):
    server.files["/w.bin"] = CONTENT
    part_of(tmp_path / "w.bin").write_bytes(b"something else")
    assert download(server.url + "/w.bin", tmp_path / "w.bin").sha256 == SHA256
    assert server.ranges("/w.bin") == [None]


def test_a_host_that_is_busy_is_asked_again(server, tmp_path):
    server.files["/w.bin"] = CONTENT
    server.failures["/w.bin"] = 2
    assert download(server.url + "/w.bin", tmp_path / "w.bin").sha256 == SHA256


def test_a_host_without_the_file_is_asked_once(server, tmp_path):
    with pytest.raises(DownloadFailed, match="404"):
        download(server.url + "/w.bin", tmp_path / "w.bin")
    assert len(server.requests) == 1


def test_a_host_that_is_not_there_fails_with_the_reason(tmp_path):
    with pytest.raises(DownloadFailed, match=r"attempts failed.*refused"):
        download("http://127.0.0.1:1/w.bin", tmp_path / "w.bin")


def test_an_address_that_is_not_http_is_refused(tmp_path):
    with pytest.raises(DownloadFailed, match="not an http"):
        download("file:///etc/passwd", tmp_path / "w.bin")


def test_the_checksum_header_is_taken_from_before_the_redirect(server, tmp_path):
    server.files["/storage"] = CONTENT
    server.redirects["/hub"] = server.url + "/storage"
    server.headers["/hub"] = {"X-Linked-Etag": f'"{SHA256}"'}
    assert download(server.url + "/hub", tmp_path / "w.bin", header="X-Linked-Etag").stated == SHA256


def test_a_header_that_is_no_sha256_states_nothing(server, tmp_path):
    server.files["/w.bin"] = CONTENT
    server.headers["/w.bin"] = {"X-Linked-Etag": '"abc"'}
    assert download(server.url + "/w.bin", tmp_path / "w.bin", header="X-Linked-Etag").stated is None


def test_the_sha256_of_a_file_is_that_of_its_bytes(tmp_path):
    (tmp_path / "w.bin").write_bytes(CONTENT)
    assert sha256_of(tmp_path / "w.bin") == SHA256
