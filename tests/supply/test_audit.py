"""The check for known vulnerabilities: by a copy of the database, by the network, and without either."""

import json
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from support.served import served

from supply.audit import main

NOWHERE = "http://127.0.0.1:9"


def record(number: int, name: str, **affected: Any) -> dict[str, Any]:
    return {
        "id": f"PYSEC-{number}",
        "aliases": [f"CVE-{number}"],
        "summary": "bad",
        "affected": [{"package": {"ecosystem": "PyPI", "name": name}, **affected}],
    }


def within(*events: dict[str, str]) -> dict[str, Any]:
    return {"ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}


@pytest.fixture
def pins(tmp_path: Path) -> Path:
    file = tmp_path / "pins.txt"
    sha = "a" * 64
    file.write_text(f"some-package==1.5 \\\n    --hash=sha256:{sha}\nother==2.0 \\\n    --hash=sha256:{sha}\n")
    return file


@pytest.fixture(autouse=True)
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FOVEA_OSV_DB", "FOVEA_OSV_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, *records: dict[str, Any]) -> Path:
    folder.mkdir()
    for number, one in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(one))
    return folder


@pytest.mark.parametrize(
    ("affected", "hit"),
    [
        (within({"introduced": "0"}, {"fixed": "1.6"}), True),
        (within({"introduced": "0"}, {"fixed": "1.5"}), False),
        (within({"introduced": "1.5.0"}), True),
        (within({"introduced": "1.10"}), False),
        (within({"introduced": "0"}, {"last_affected": "1.5"}), True),
        (within({"introduced": "0"}, {"last_affected": "1.4"}), False),
        (within({"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.4"}, {"fixed": "1.7"}), True),
        (within({"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.7"}), False),
        ({"versions": ["1.4", "1.5.0"]}, True),
        ({"versions": ["1.4"]}, False),
        (within({"introduced": "not a version"}), True),
    ],
)
def test_a_pin_within_a_vulnerable_range_is_found(
    tmp_path: Path, pins: Path, capsys: pytest.CaptureFixture[str], affected: dict[str, Any], hit: bool
) -> None:
    database = written(tmp_path / "osv", record(1, "Some_Package", **affected))
    assert main([str(pins), "--database", str(database), "--url", NOWHERE]) == (1 if hit else 0)
    said = capsys.readouterr().out
    assert ("some-package 1.5: PYSEC-1, CVE-1 bad" in said) == hit
    assert "2 pins were looked up in 1 records" in said


def test_a_withdrawn_record_and_another_ecosystem_are_no_finding(tmp_path: Path, pins: Path) -> None:
    withdrawn = {**record(1, "some-package", versions=["1.5"]), "withdrawn": "2026-01-01T00:00:00Z"}
    elsewhere = record(2, "some-package", versions=["1.5"])
    elsewhere["affected"][0]["package"]["ecosystem"] = "npm"
    database = written(tmp_path / "osv", withdrawn, elsewhere)
    assert main([str(pins), "--database", str(database)]) == 0


def test_the_zip_that_osv_offers_is_read(tmp_path: Path, pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PYSEC-1.json", json.dumps(record(1, "other", versions=["2.0"])))
    monkeypatch.setenv("FOVEA_OSV_DB", str(path))
    assert main([str(pins)]) == 1


@pytest.mark.parametrize("content", [None, "{", "[]", json.dumps(record(1, "x")).replace("PyPI", "npm")])
def test_a_database_that_is_none_is_never_an_all_clear(
    tmp_path: Path, pins: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    path = tmp_path / "osv.json"
    if content is not None:
        path.write_text(content)
    assert main([str(pins), "--database", str(path)]) == 3
    said = capsys.readouterr().out
    assert said.startswith("NOT CHECKED: no database could be reached")
    assert "0 known" not in said


def test_without_network_and_copy_nothing_is_said_to_be_checked(
    pins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(pins), "--url", NOWHERE]) == 3
    assert capsys.readouterr().out.startswith("NOT CHECKED")


class Osv(BaseHTTPRequestHandler):
    """Answers as OSV does; `answer` makes it of the queries."""

    asked: list[Any] = []  # noqa: RUF012
    answer: Any = None

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        self.asked.extend(queries)
        body = json.dumps({"results": type(self).answer(queries)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def osv() -> Iterator[str]:
    Osv.asked.clear()
    with served(Osv) as url:
        yield url


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda queries: [{} for _ in queries], 0),
        (lambda queries: [{"vulns": [{"id": "PYSEC-7"}]}, *({} for _ in queries[1:])], 1),
        # Answers for fewer than were asked about, or in pages, are no answer.
        (lambda _queries: [], 3),
        (lambda queries: [{"next_page_token": "x"} for _ in queries], 3),
    ],
)
def test_the_network_is_asked_about_every_pin(osv: str, pins: Path, answer: Any, code: int) -> None:
    Osv.answer = staticmethod(answer)
    assert main([str(pins), "--url", osv]) == code
    assert Osv.asked == [
        {"package": {"name": "other", "ecosystem": "PyPI"}, "version": "2.0"},
        {"package": {"name": "some-package", "ecosystem": "PyPI"}, "version": "1.5"},
    ]
