"""The tables of docs/benchmarks.md out of a run's JSON."""

import json
from pathlib import Path

import pytest

from benchmarks.case import Case, Entrant, Trial
from benchmarks.figure import Figure
from benchmarks.machine import this_machine
from benchmarks.report import write_json
from benchmarks.table import BEGIN, END, PAGE, main, put

COMMAND = "python -m benchmarks.run --rounds 3 --peers triton"


def figure(step: str, rate: float, **values: float) -> Figure:
    given = {"p50_ms": 40.0, "p99_ms": 90.0, "cpu_ms": 10.0, "others": 0.0, "pss": 200 * 2**20, **values}
    return Figure(step=step, images=int(rate * 10), seconds=10.0, **given)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Three rounds of Fovea, of a Triton that answered wrongly once with 32 requests, and no BentoML."""
    photographs = {"name": "small", "width": 500, "height": 375, "mean_bytes": 99_000}
    case = Case("mobilenet_v2", "random", photographs)
    for number, limit in enumerate((100.0, 50.0, 100.0)):
        figures = [
            figure("triton@8", 0.8 * limit, cold_start_s=2.0),
            figure("triton@32", 0.9 * limit, cold_start_s=2.0, faults=int(number == 1)),
            figure("limit", limit),
            figure("fovea-loop", limit, inference_ms=6.0),
            figure("fovea@8", (1.0 + number / 100) * limit, cold_start_s=3.0 + number, cpu_ms=11.0),
            figure("fovea@32", 1.1 * limit, cold_start_s=3.0 + number, cpu_ms=9.0, pss=300 * 2**20),
        ]
        case.rounds.append({figure.step: figure for figure in figures})
    settings = {"instances": 2, "batch": 8}
    case.entrants["triton"] = Entrant("nvidia-pytriton 0.7.0", settings, [Trial(settings, {8: 80.0, 32: 90.0})])
    case.left_out["bentoml"] = "bentoml could not be installed:\nno network"
    path = tmp_path / "bench.json"
    plan = {"rounds": 3, "seconds": 5.0, "concurrency": (8, 32), "cores": 2}
    write_json(path, this_machine(), COMMAND, plan, [case])
    return path


def test_a_run_becomes_a_table_for_each_case(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0

    said = capsys.readouterr().out
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
            for line in said.splitlines() if line.startswith("| ")}  # fmt: skip
    date = json.loads(run.read_text())["date"]
    assert said.startswith(f"{date}, ")
    assert f"`{COMMAND}`: medians of 3 rounds of 5 s" in said
    assert "The limit: 100 (50 to 100) images/s." in said
    assert list(rows)[1:] == ["fovea", "triton"]
    assert rows["fovea"][:2] == ["1.01 (1.00 to 1.02); 40, 90", "1.10 (1.10 to 1.10); 40, 90"]
    assert rows["fovea"][2:] == ["11.0 / 9.0", "300", "4.0"]
    assert rows["triton"] == ["0.80 (0.80 to 0.80); 40, 90", "void: 1 errors", "10.0 / -", "200", "2.0"]
    assert "triton (nvidia-pytriton 0.7.0): instances 2, batch 8" in said
    assert "bentoml was left out: bentoml could not be installed: no network" in said


def test_several_runs_follow_each_other(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), str(run)]) == 0
    said = capsys.readouterr().out
    assert said.count(f"`{COMMAND}`: medians of 3 rounds") == 2
    assert "\n\n" in said


def test_it_replaces_what_stands_between_the_marks_of_the_page(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    monkeypatch.setattr("benchmarks.table.PAGE", page)

    main([str(run), "--write"])
    once = page.read_text()
    main([str(run), "--write"])

    assert once.startswith(f"before\n{BEGIN}\n2")
    assert once.endswith(f"\n{END}\nafter\n")
    assert "stale" not in once
    assert page.read_text() == once


def test_the_page_has_the_marks() -> None:
    assert "text" in put(PAGE.read_text(), "text")


def test_a_file_that_is_no_run_and_a_page_without_marks_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "soak.json"
    other.write_text('{"machine": {}}')

    with pytest.raises(SystemExit) as refused:
        main([str(other)])

    assert refused.value.code == 2
    assert "is not what a run of this release wrote" in capsys.readouterr().err
    with pytest.raises(ValueError, match="has no <!-- generated: bench -->"):
        put("nothing", "text")
