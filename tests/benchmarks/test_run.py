"""The command's edges; the whole of it is `make bench`."""

import re
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.run import command, install_peers, main, parse


def test_without_wrk_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")

    assert main(["--quick"]) == 2

    assert "wrk" in capsys.readouterr().err


def test_quick_is_a_matter_of_seconds() -> None:
    options = parse(["--quick", "--models", "mobilenet_v2", "--sets", "small,large", "--concurrency", "1, 4"])

    assert options.models == ("mobilenet_v2",)
    assert options.sets == ("small", "large")
    assert options.concurrency == (1, 4)
    assert options.rounds * options.seconds <= 4


@pytest.mark.parametrize(
    ("given", "peers"),
    [
        ([], ("bare-fastapi",)),
        (["--peers", "none"], ()),
        (["--peers", "triton, bare-fastapi"], ("triton", "bare-fastapi")),
        (["--peers", "all"], ("bare-fastapi", "triton", "litserve", "bentoml", "torchserve")),
    ],
)
def test_peers_are_driven_as_asked_for(given: list[str], peers: tuple[str, ...]) -> None:
    assert parse(given).peers == peers


def test_a_peer_that_cannot_be_installed_is_left_out_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    console = Console(record=True, width=150)

    installed, unavailable = install_peers(parse(["--peers", "torchserve,bare-fastapi"]), console)

    assert [peer.peer.name for peer in installed] == ["bare-fastapi"]
    assert unavailable == {"torchserve": "torchserve needs java on the PATH"}
    assert "torchserve needs java" in console.export_text()


def test_the_command_of_a_run_is_kept_without_the_paths_of_its_machine() -> None:
    given = ["--rounds", "5", "--json", "/home/me/bench.json", "--peers", "all", "--cache=/home/me/cache"]

    assert command(given) == "python -m benchmarks.run --rounds 5 --peers all"


def test_an_unknown_peer_is_told_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--peers", "tritn"])

    assert re.search(r"--peers knows .*triton.*, not tritn", capsys.readouterr().err)


@pytest.mark.parametrize(
    "wrong", [["--sets", "huge"], ["--concurrency", "0"], ["--rounds", "0"], ["--peers", "all,triton"]]
)
def test_nonsense_is_refused_before_anything_starts(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(wrong)

    assert refused.value.code == 2
