"""The command's edges; the whole of it is `make bench`."""

import pytest

from benchmarks.run import main, parse


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


@pytest.mark.parametrize("wrong", [["--sets", "huge"], ["--concurrency", "0"], ["--rounds", "0"]])
def test_nonsense_is_refused_before_anything_starts(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        parse(wrong)

    assert refused.value.code == 2
