"""Hears SIGTERM whatever the process is doing, and sees to it that the process ends."""

import faulthandler
import signal
import socket
import threading


def stop_on_sigterm(grace_s: float) -> threading.Event:
    """An event that SIGTERM sets. To be called once, by the main thread.

    A process that is still there `grace_s` later writes to stderr where its threads are, and exits with 1.
    A thread hears the signal. A handler that sets the event would wait for itself for good when the next signal
    comes in its middle, and a parent that dies sends one for each of its threads; nor is it called while the main
    thread is in C code.
    """
    stop = threading.Event()
    heard, told = socket.socketpair()
    told.setblocking(False)
    # Both stay open as long as the process lives; the C handler writes the number of each signal.
    signal.set_wakeup_fd(told.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, lambda *_: None)

    def listen() -> None:
        while signals := heard.recv(64):
            if signal.SIGTERM in signals and not stop.is_set():
                stop.set()
                faulthandler.dump_traceback_later(grace_s, exit=True)

    threading.Thread(target=listen, name="sigterm", daemon=True).start()
    return stop
