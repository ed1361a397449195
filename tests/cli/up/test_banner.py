"""The ready banner's lines are commands for this shell, here and now."""

import shlex
from pathlib import Path

import pytest

from cli.up.banner import Banner, curl_lines, summary
from fovea_client import Prediction, ScoredClass

URL = "http://127.0.0.1:8000"


def test_the_first_line_classifies_the_sample_by_its_path_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sample = tmp_path / "my data" / "digit-7-0.png"
    words = shlex.split(curl_lines(URL, sample)[0])
    assert words[0] == "curl"
    assert "@my data/digit-7-0.png" in words
    assert words[-1] == f"{URL}/v1/models/digits/classify?top_k=3"


def test_a_sample_above_the_current_directory_has_its_full_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert f"@{tmp_path}/data/digit.png" in curl_lines(URL, tmp_path / "data" / "digit.png")[0]


def test_without_a_sample_there_are_three_lines_all_the_same() -> None:
    lines = curl_lines(URL, None)
    assert len(lines) == 3
    assert "classify" not in " ".join(lines)


def test_a_proxy_of_the_environment_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert all("--noproxy 127.0.0.1" in line for line in curl_lines(URL, None))
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert all("--noproxy" not in line for line in curl_lines(URL, None))


def test_a_key_is_shown_once_and_used_by_every_line(tmp_path: Path) -> None:
    lines = curl_lines(URL, None, needs_key=True)
    text = Banner(URL, tmp_path, lines, first_key="fov_abc.secret").render()
    assert text.count("fov_abc.secret") == 1
    assert text.count('-H "Authorization: Bearer $FOVEA_KEY"') == 3


def test_a_classification_fits_into_a_line() -> None:
    classes = (ScoredClass(7, "7", 0.9991), ScoredClass(9, "9", 0.0007))
    assert summary(Prediction(None, classes, model="digits", version=1)) == "digits version 1: 7 99.9 %, 9 0.1 %"
