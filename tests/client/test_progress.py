"""How a wait looks: on a terminal, on what is none, and in a notebook."""

import io
import sys
import types
from typing import Any

import pytest
from support.waited import job

from fovea_client.progress import Line, ShownJob, ShownUpload


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


JOBS = [
    job({"state": "queued"}),
    job({"state": "running", "progress": {"phase": "training", "epoch": 1, "epochs": 2}}),
    job({"state": "succeeded"}),
]


def test_on_a_terminal_one_line_is_written_over_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr("fovea_client.progress.INTERVAL_S", 0.0)
    with ShownJob(True) as shown:
        for seen in JOBS:
            shown.show(seen)
    frames = terminal.getvalue().split("\r")[1:]
    assert frames[0].startswith("job_1 [........................] queued")
    assert frames[1].startswith("job_1 [############............] training, epoch 1 of 2")
    assert frames[2].rstrip() == "job_1 [########################] succeeded"
    assert terminal.getvalue().endswith("\n")
    # A shorter line leaves nothing of a longer one.
    assert len(frames[2].rstrip("\n")) >= len(frames[1])


def test_on_what_is_no_terminal_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with ShownJob(True) as shown:
        shown.show(JOBS[1])
    with ShownUpload("photos", True) as upload:
        upload.show("sending", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_a_function_is_told_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    told: list[Any] = []
    with ShownJob(told.append) as shown:
        for seen in JOBS:
            shown.show(seen)
    assert told == JOBS
    assert terminal.getvalue() == ""


def test_an_upload_has_a_line_of_its_own() -> None:
    line = Line(terminal := Terminal())
    line.say("sending photos", 0.5, "50.0 %", at_once=True)
    line.end()
    assert terminal.getvalue() == "\rsending photos [############............] 50.0 %\n"


def test_a_notebook_is_shown_one_bar_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what IPython's documentation says of `display`; IPython itself is not here."""
    shown: list[dict[str, str]] = []

    class Handle:
        def update(self, content: dict[str, str], *, raw: bool) -> None:
            assert raw
            shown.append(content)

    def display(content: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        shown.append(content)
        return Handle()

    shell = types.SimpleNamespace(kernel=object())
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    module: Any = types.ModuleType("IPython.display")
    module.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with ShownJob(True) as bar:
        for seen in JOBS:
            bar.show(seen)
    assert [content["text/plain"] for content in shown] == [
        "job_1: queued", "job_1: training, epoch 1 of 2", "job_1: succeeded",
    ]  # fmt: skip
    assert all(content["text/html"].startswith("<div") for content in shown)
