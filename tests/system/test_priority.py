"""Work that nobody waits for: its priority, and that of what it starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

NICENESS = 7
SAY = """
import os, subprocess, sys
from pathlib import Path
from system.priority import stand_back
stand_back(7)
stand_back(5)
child = subprocess.run([sys.executable, "-c", "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"],
                       capture_output=True, text=True)
group = Path("/proc/self/autogroup")
print(os.getpriority(os.PRIO_PROCESS, 0), child.stdout.strip(), group.read_text() if group.exists() else "")
"""


def lowered() -> str:
    """A run of the tests may have a low priority itself, which no process can raise."""
    return str(max(os.getpriority(os.PRIO_PROCESS, 0), NICENESS))


def said(*, own_session: bool) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SAY], capture_output=True, text=True, check=True, start_new_session=own_session
    )
    return done.stdout.split()


def test_a_process_that_stands_back_and_its_children_have_a_low_priority() -> None:
    assert said(own_session=False)[:2] == [lowered()] * 2


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel groups no processes by session")
def test_a_session_of_its_own_stands_back_and_one_that_is_shared_does_not() -> None:
    ours = Path("/proc/self/autogroup").read_text().split()
    assert said(own_session=True)[2:][-1] == lowered()
    assert said(own_session=False)[2:] == ours
