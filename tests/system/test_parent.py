"""A child is told to end when its parent is killed without a word."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from system.parent import dying_with_parent

PARENT = """
import subprocess, sys, time
from system.parent import dying_with_parent
program = "import time; print('up', flush=True); time.sleep(60)"
child = subprocess.Popen(dying_with_parent([sys.executable, "-c", program]), stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_child_ends_when_its_parent_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child lives on"
        time.sleep(0.02)


def test_the_command_ends_as_it_would_have_ended() -> None:
    command = dying_with_parent([sys.executable, "-c", "import sys; sys.exit(3)"])
    assert subprocess.run(command, check=False).returncode == 3


@pytest.mark.skipif(sys.platform != "linux", reason="off Linux the command is not wrapped")
def test_a_command_that_is_not_there_says_so() -> None:
    done = subprocess.run(dying_with_parent(["/nowhere/program"]), check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "/nowhere/program cannot be started" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="off Linux the command is not wrapped")
def test_a_command_stands_back_from_its_first_moment() -> None:
    command = dying_with_parent([sys.executable, "-c", "import os; print(os.nice(0))"], niceness=3)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) == os.nice(0) + 3
