"""What is concluded from the rounds."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.case import Case
from benchmarks.figure import Figure
from benchmarks.machine import this_machine
from benchmarks.report import print_case, print_memory, print_notes, write_json

PHOTOGRAPHS = {"name": "small", "origin": "here", "count": 3, "width": 500, "height": 375, "mean_bytes": 99_000}


def figure(
    step: str, rate: float, *, cpu_ms: float = 10.0, inference_ms: float | None = None, faults: int = 0
) -> Figure:
    return Figure(
        step=step,
        images=int(rate * 10),
        seconds=10.0,
        p50_ms=5.0,
        p99_ms=9.0,
        cpu_ms=cpu_ms,
        others=0.0,
        inference_ms=inference_ms,
        memory_of={"gateway": 100 * 2**20},
        faults=faults,
        fault="503 no worker" if faults else "",
    )


def case_of(*rounds: tuple[float, float], faults: int = 0) -> Case:
    """Rounds of (the limit's rate, the service's)."""
    case = Case("mobilenet_v2", "random", PHOTOGRAPHS)
    for limit, rest in rounds:
        steps = (
            figure("limit", limit, cpu_ms=20.0, inference_ms=15.0),
            figure("fovea-loop", limit, cpu_ms=10.0, inference_ms=8.0),
            figure("fovea@32", rest, cpu_ms=12.0, faults=faults),
        )
        case.rounds.append({step.step: step for step in steps})
    return case


def test_a_ratio_is_to_the_limit_of_the_same_round() -> None:
    # The machine became twice as slow in the second round, for both: medians of rates would say otherwise.
    case = case_of((100.0, 120.0), (50.0, 60.0), (100.0, 110.0))

    ratio = case.ratio("fovea@32")

    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((1.1, 1.2, 1.2))


def test_a_step_that_is_missing_in_a_round_is_judged_by_the_others() -> None:
    case = case_of((100.0, 120.0), (50.0, 60.0), (100.0, 110.0))
    del case.rounds[1]["fovea@32"]

    assert (case.ratio("fovea@32").low, case.ratio("fovea@32").high) == pytest.approx((1.1, 1.2))
    assert len(case.figures("limit")) == 3


def test_steps_have_one_order_whatever_the_rounds_had() -> None:
    names = ["triton@32", "fovea@32", "fovea-loop", "bare-fastapi@8", "fovea@8", "limit", "triton@8"]
    case = Case("mobilenet_v2", "random", PHOTOGRAPHS, [{name: figure(name, 100.0) for name in names}])

    assert case.steps == [
        "limit", "fovea-loop", "fovea@8", "fovea@32", "bare-fastapi@8", "triton@8", "triton@32"
    ]  # fmt: skip


def test_time_outside_the_runtime_is_measured_in_a_loop_and_inferred_for_a_server() -> None:
    case = case_of((100.0, 100.0))

    assert case.outside("limit").median == pytest.approx(20.0 - 15.0)
    assert case.outside("fovea@32").median == pytest.approx(12.0 - 8.0)


def test_a_figure_with_a_failed_request_is_void() -> None:
    console = Console(record=True, width=150)
    case = case_of((100.0, 500.0), faults=1)

    print_case(console, case)

    text = console.export_text()
    assert "void" in text
    assert "503 no worker" in text
    assert "500.0" not in text
    assert case.to_dict()["steps"]["fovea@32"]["valid"] is False


def test_the_report_is_written_as_tables_and_as_json(tmp_path: Path) -> None:
    console = Console(record=True, width=150)
    case = case_of((100.0, 120.0), (100.0, 130.0))

    print_case(console, case)
    print_memory(console, [case])
    print_notes(console, [case])
    write_json(tmp_path / "bench.json", this_machine(), "--rounds 2", {"rounds": 2}, [case])

    assert "1.25 (1.20 to 1.30)" in console.export_text()
    document = json.loads((tmp_path / "bench.json").read_text())
    assert document["machine"]["cores"] >= 1
    assert document["command"] == "--rounds 2"
    assert document["cases"][0]["steps"]["fovea@32"]["ratio"]["median"] == 1.25
    assert document["cases"][0]["rounds"][1]["fovea@32"]["rate"] == 130.0
