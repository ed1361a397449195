"""Standing back: work that nobody waits for leaves the processor to work that somebody waits for."""

import os
import sys
from contextlib import suppress
from pathlib import Path

# A third of what a process of ordinary priority gets where both want a core, and all of it where none does. With a
# tenth, on a machine that was full for minutes, a trainer did not come to its training within two of them.
TRAINER_NICENESS = 5
# A tenth: bulk jobs have more threads than there are cores, and what takes long to start has started before.
BULK_NICENESS = 10


def stand_back(niceness: int) -> None:
    """Give this thread, and what it starts from now on, a low priority. Off Unix nothing happens.

    Priorities are compared within one container: between containers the weights of their control groups decide.
    """
    if not hasattr(os, "setpriority"):
        return
    niceness = max(niceness, os.getpriority(os.PRIO_PROCESS, 0))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
    if sys.platform == "linux" and os.getsid(0) == os.getpid():
        # Where the kernel groups processes by session, niceness counts within a session only, and this process
        # has one to itself.
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))
