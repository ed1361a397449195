"""What a round measures, and in which order."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.colours import LABELS, make_colour_artifact, picture
from support.plain import make_plain_artifact

from benchmarks.artifacts import FOVEA, Artifacts
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.peer import Launch, Peer, Place
from benchmarks.photographs import Photographs
from benchmarks.rounds import Installed, Plan, measure_case, order
from benchmarks.server import Settings
from models.artifact import write_manifest

TURNS = ["limit", "fovea-loop", "fovea", "triton", "litserve", "bare-fastapi"]


def test_every_round_has_all_turns_in_an_order_of_its_own_that_a_second_run_repeats() -> None:
    rounds = [order(number, TURNS) for number in range(5)]

    assert all(sorted(turns) == sorted(TURNS) for turns in rounds)
    assert rounds == [order(number, TURNS) for number in range(5)]
    for turn in TURNS:
        before = {turns[turns.index(turn) - 1] if turns.index(turn) else None for turns in rounds}
        assert len(before) > 1, f"{turn} follows {before} in all rounds"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_case_measures_every_server_in_every_round_and_names_the_peer_that_fails(tmp_path: Path) -> None:
    manifest = make_colour_artifact(tmp_path / FOVEA)
    write_manifest(tmp_path / FOVEA, replace(manifest, weights={"origin": "none"}))
    make_plain_artifact(tmp_path)
    paths = tuple(tmp_path / f"{colour}.jpg" for colour in LABELS)
    for path in paths:
        path.write_bytes(picture(path.stem, form="JPEG"))

    def launch(place: Place, _settings: Settings) -> Launch:
        return Launch([str(place.python), "-c", "raise SystemExit('no licence')"], "/")

    broken = Peer("broken", "fastapi", launch, lambda _cores: [{"workers": 1}, {"workers": 2}])
    peers = [Installed(peer, Path(sys.executable), "fastapi 1") for peer in (PEERS["bare-fastapi"], broken)]
    said: list[str] = []

    case = measure_case(
        Artifacts("colours", tmp_path),
        Photographs("small", "made here", paths),
        Plan(rounds=2, seconds=0.5, concurrency=(1, 2), cores=1),
        peers,
        said.append,
    )

    servers = [f"{name}@{count}" for name in ("fovea", "bare-fastapi") for count in (1, 2)]
    assert case.steps == ["limit", "fovea-loop", *servers]
    assert all(sorted(figures) == sorted(case.steps) for figures in case.rounds)
    assert case.faults == 0
    assert all(figures[step].cold_start_s for figures in case.rounds for step in servers)
    assert all(figures["fovea@2"].stages["batch"] >= 1 for figures in case.rounds)
    assert list(case.left_out) == ["broken"]
    assert "no licence" in case.left_out["broken"]
    (entrant,) = case.entrants.values()
    assert [trial.settings for trial in entrant.trials] == [{"workers": 1}, {"workers": 2}]
    assert entrant.settings in [trial.settings for trial in entrant.trials]
    assert any("broken, workers 2" in line and "no licence" in line for line in said)
