"""SIGTERM is heard while the main thread is in C code, and who does not end by himself is ended."""

import signal
import subprocess
import sys

import pytest

# A main thread that no signal can wake: it waits within C for a lock that nobody gives back.
STUCK = """
import ctypes, sys, threading
from system.stopping import stop_on_sigterm

stop = stop_on_sigterm({grace_s})
# Python takes the signal's handler away before it ends, so that one that is late would end the process first.
hearing = threading.Thread(target=lambda: (stop.wait(), print("heard", flush=True), sys.stdin.readline()))
hearing.start()
lock = ctypes.create_string_buffer(64)
library = ctypes.CDLL(None)
library.pthread_mutex_lock(lock)
print("ready", flush=True)
if {is_stuck}:
    library.pthread_mutex_lock(lock)
hearing.join()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other mutexes")
@pytest.mark.parametrize("is_stuck", [True, False], ids=["stuck in C", "in Python"])
def test_a_process_that_was_told_to_end_ends(is_stuck: bool) -> None:
    code = STUCK.format(grace_s=1.0 if is_stuck else 60.0, is_stuck=is_stuck)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "ready\n"
        # As from a parent that dies: one for each of its threads.
        for _ in range(100):
            process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "heard\n"
        process.stdin.close()
        where = process.stderr.read()
        assert process.wait(30) == int(is_stuck)
    # What it leaves says where it was.
    assert ("most recent call first" in where) == is_stuck
