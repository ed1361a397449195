"""A process that ends when the one that started it does, however that dies. Off Linux nothing happens."""

import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1

# A program before the program: `preexec_fn` would run Python in a fork of a process that has threads.
_DIE_WITH_PARENT = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, int(sys.argv[2]))
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
try:
    os.execvp(sys.argv[3], sys.argv[3:])
except OSError as error:
    sys.exit(f"{{sys.argv[3]}} cannot be started: {{error.strerror}}")
"""


def dying_with_parent(command: Sequence[str], how: signal.Signals = signal.SIGTERM) -> list[str]:
    """The command, such that the kernel sends it the signal when the *thread* that starts it is gone.

    Without it a child whose parent was killed would go on, alone, for hours.
    """
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), str(int(how)), *command]
