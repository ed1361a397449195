"""The supervisor over real processes: restarts, giving up, ending in order, leaving nothing behind."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from cli.errors import StartFailed
from cli.up.child import ChildSpec, Stage
from cli.up.supervisor import Supervisor, SupervisorSettings

QUICK = SupervisorSettings(
    first_delay_s=0.05, longest_delay_s=0.2, healthy_s=0.5, gateway_s=0.5, kill_s=1.0, redis_s=0.5
)
SLEEPER = "import os, time; print('up', os.getpid()); time.sleep(60)"
DEAF = """
    import os, signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print('up', os.getpid())
    time.sleep(60)
"""
# Its child is in a session of its own, as a training run is, and would survive it.
PARENT = """
    import os, subprocess, sys, time
    code = "import time; time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    print('up', os.getpid(), 'child', child.pid)
    time.sleep(60)
"""

Make = Callable[..., ChildSpec]


def pids(text: str, word: str = "up") -> list[int]:
    return [int(pid) for pid in re.findall(rf"\b{word} (\d+)", text)]


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_lines_carry_the_name_of_the_child_that_wrote_them(book: Any, child: Make) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        supervisor.start(
            child("gateway", "import sys; print('to stdout'); print('to stderr', file=sys.stderr); input()")
        )
        await book.says("gateway   | to stdout")
        await book.says("gateway   | to stderr")
        await supervisor.stop()

    asyncio.run(scenario())


def test_a_killed_child_is_started_again_and_the_reason_is_said(book: Any, child: Make) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        supervisor.start(child("inference", SLEEPER))
        await book.says("up ")
        os.kill(pids(book.text)[0], signal.SIGKILL)
        await book.until(lambda: len(pids(book.text)) == 2)
        assert is_alive(pids(book.text)[1])
        await supervisor.stop()

    asyncio.run(scenario())
    assert "inference died: killed by SIGKILL (perhaps out of memory); starting it again in 0.05 s" in book.text


def test_the_delay_before_a_restart_doubles_up_to_its_limit(book: Any, child: Make) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        supervisor.start(child("training", "raise SystemExit(3)"))
        supervisor.mark_ready("training")
        await book.until(lambda: book.text.count("died") == 5)
        await supervisor.stop()

    asyncio.run(scenario())
    assert re.findall(r"exit code 3; starting it again in (\S+) s", book.text)[:5] == [
        "0.05",
        "0.1",
        "0.2",
        "0.2",
        "0.2",
    ]


def test_a_child_that_was_healthy_for_a_while_starts_again_at_once(book: Any, child: Make) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        supervisor.start(child("training", "import time; time.sleep(0.7); raise SystemExit(3)"))
        await book.until(lambda: book.text.count("died") == 3)
        await supervisor.stop()

    asyncio.run(scenario())
    assert set(re.findall(r"again in (\S+) s", book.text)) == {"0.05"}


def test_a_child_that_never_works_is_given_up_with_its_last_lines(book: Any, child: Make) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        supervisor.start(child("inference", "raise SystemExit('no such weights')"))
        with pytest.raises(StartFailed) as failure:
            await supervisor.failed
        await supervisor.stop()
        assert "inference failed to start 5 times (exit code 1)" in str(failure.value)
        assert "inference | no such weights" in str(failure.value)

    asyncio.run(scenario())


def test_a_child_that_refuses_its_settings_is_not_started_again(book: Any, child: Make) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        supervisor.start(child("inference", "print('no CUDA here'); raise SystemExit(2)"))
        with pytest.raises(StartFailed, match=r"inference failed to start \(exit code 2\)(.|\n)*no CUDA here"):
            await supervisor.failed
        await supervisor.stop()

    asyncio.run(scenario())
    assert "again" not in book.text


def test_a_quiet_child_is_heard_when_it_dies(book: Any, child: Make) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        supervisor.start(child("broker", "print('Bad file format'); input(); raise SystemExit(1)", quiet=True))
        supervisor.mark_ready("broker")
        await book.says("broker    | Bad file format")
        await supervisor.stop()

    asyncio.run(scenario())


def test_a_program_that_is_missing_is_reported(book: Any) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        supervisor.start(ChildSpec("broker", ("/nowhere/redis-server",), Stage.REDIS))
        with pytest.raises(StartFailed, match="/nowhere/redis-server"):
            await supervisor.failed
        await supervisor.stop()

    asyncio.run(scenario())


def test_a_line_longer_than_any_buffer_does_not_stop_the_reading(book: Any, child: Make) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        supervisor.start(
            child("gateway", "import time; print('x' * 3_000_000); print('after it'); time.sleep(60)")
        )
        await book.says("after it")
        await supervisor.stop()

    asyncio.run(scenario())


def test_everything_ends_in_order_redis_last(book: Any, child: Make, tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    note = """
        import pathlib, signal, time
        def end(*_):
            with pathlib.Path({ends!r}).open('a') as file:
                file.write({name!r} + ' ')
            raise SystemExit
        signal.signal(signal.SIGTERM, end)
        print('up 1')
        time.sleep(60)
    """

    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        for name, stage in (("broker", Stage.REDIS), ("inference", Stage.WORKER), ("gateway", Stage.GATEWAY)):
            supervisor.start(child(name, note.format(ends=str(ends), name=name), stage))
        await book.until(lambda: len(pids(book.text)) == 3)
        await supervisor.stop()

    asyncio.run(scenario())
    assert ends.read_text().split() == ["gateway", "inference", "broker"]


def test_what_ignores_sigterm_is_killed_in_time(book: Any, child: Make) -> None:
    async def scenario() -> float:
        supervisor = Supervisor(book.journal, QUICK)
        for name, stage in (("broker", Stage.REDIS), ("inference", Stage.WORKER), ("gateway", Stage.GATEWAY)):
            supervisor.start(child(name, DEAF, stage))
        await book.until(lambda: len(pids(book.text)) == 3)
        started = time.monotonic()
        await supervisor.stop()
        return time.monotonic() - started

    took = asyncio.run(scenario())
    assert took < SupervisorSettings().kill_s
    assert not any(is_alive(pid) for pid in pids(book.text))
    assert "inference did not end by itself and was killed" in book.text


def test_the_default_settings_end_everything_within_ten_seconds() -> None:
    settings = SupervisorSettings()
    assert settings.gateway_s < settings.kill_s
    assert settings.kill_s + settings.redis_s < 10


def test_no_grandchild_survives_the_end(book: Any, child: Make) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        supervisor.start(child("training", PARENT))
        await book.says("child ")
        assert is_alive(pids(book.text, "child")[0])
        await supervisor.stop()

    asyncio.run(scenario())
    assert not is_alive(pids(book.text, "child")[0])


def test_force_kills_at_once(book: Any, child: Make) -> None:
    async def scenario() -> float:
        supervisor = Supervisor(book.journal, SupervisorSettings())
        supervisor.start(child("training", DEAF))
        await book.says("up ")
        stopping = asyncio.create_task(supervisor.stop())
        await asyncio.sleep(0.1)
        started = time.monotonic()
        supervisor.kill_all()
        await stopping
        return time.monotonic() - started

    assert asyncio.run(scenario()) < SupervisorSettings().kill_s / 2
    assert not is_alive(pids(book.text)[0])


def test_a_stop_during_the_delay_before_a_restart_starts_nothing(book: Any, child: Make) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, SupervisorSettings(first_delay_s=30))
        supervisor.start(child("gateway", "print('up 1'); raise SystemExit(1)"))
        await book.says("died")
        await asyncio.wait_for(supervisor.stop(), 1.0)

    asyncio.run(scenario())
    assert len(pids(book.text)) == 1


def test_a_child_that_runs_once_hands_back_its_last_lines(book: Any, child: Make) -> None:
    async def scenario() -> None:
        supervisor = Supervisor(book.journal, QUICK)
        assert await supervisor.run_once(child("database", "print('done')", quiet=True)) == ("done",)
        with pytest.raises(StartFailed, match=r"samples failed \(exit code 1\)"):
            await supervisor.run_once(child("samples", "raise SystemExit('disk full')", quiet=True))
        await supervisor.stop()

    asyncio.run(scenario())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells children of their parent's end")
def test_children_end_when_their_supervisor_is_killed(child: Make, tmp_path: Path) -> None:
    sleeper = child("sleeper", SLEEPER)
    program = f"""
import asyncio
from cli.up.child import ChildSpec
from cli.up.journal import Journal
from cli.up.supervisor import Supervisor

async def main():
    supervisor = Supervisor(Journal())
    supervisor.start(ChildSpec("sleeper", {sleeper.command!r}, environment={{"PYTHONUNBUFFERED": "1"}}))
    await supervisor.failed

asyncio.run(main())
"""
    supervisor = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout
    with supervisor.stdout:
        (pid,) = pids(supervisor.stdout.readline())
        assert is_alive(pid)
        supervisor.kill()
        supervisor.wait()
    deadline = time.monotonic() + 5
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)
