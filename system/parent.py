"""A process that ends when the one that started it does, however that dies. Off Linux nothing happens."""

import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1

# A program before the program: `preexec_fn` would run Python in a fork of a process that has threads.
_DIE_WITH_PARENT = f"""
import ctypes, os, sys
parent, how, niceness, *command = sys.argv[1:]
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, int(how))
if os.getppid() != int(parent):
    sys.exit(1)
os.nice(int(niceness))
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.exit(f"{{command[0]}} cannot be started: {{error.strerror}}")
"""


def dying_with_parent(
    command: Sequence[str], how: signal.Signals = signal.SIGTERM, *, niceness: int = 0
) -> list[str]:
    """The command, such that the kernel sends it the signal when the *thread* that starts it is gone.

    It begins with `niceness` more than that thread has, before it imports anything.

    Without it a child whose parent was killed would go on, alone, for hours.
    """
    if sys.platform != "linux":
        return list(command)
    before = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), str(int(how)), str(niceness)]
    return [*before, *command]
