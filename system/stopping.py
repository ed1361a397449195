"""Hears SIGTERM whatever the process is doing, and sees to it that the process ends."""

import faulthandler
import signal
import socket
import threading


def stop_on_sigterm(grace_s: float) -> threading.Event:
    """An event that SIGTERM sets. To be called once, by the main thread.

    A process that is still there `grace_s` later writes to stderr where its threads are, and exits with 1.
    A thread hears the signal: the main thread hears nothing while it is in C code, and may never come out of it.
    """
    stop = threading.Event()
    heard, told = socket.socketpair()
    told.setblocking(False)
    # Both stay open as long as the process lives; the C handler writes the number of each signal.
    signal.set_wakeup_fd(told.detach())
    signal.signal(signal.SIGTERM, lambda *_: None)

    def listen() -> None:
        with heard:
            while signal.SIGTERM not in heard.recv(1):
                continue
        stop.set()
        faulthandler.dump_traceback_later(grace_s, exit=True)

    threading.Thread(target=listen, name="sigterm", daemon=True).start()
    return stop
