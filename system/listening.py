"""A listening socket that takes nobody new while those who are connected already can still be accepted."""

import ctypes
import os
import socket
import struct
import sys
from contextlib import suppress

_SO_ATTACH_FILTER = 26
# Of the flags in a TCP header's byte 13: SYN without ACK, which is how a connection begins.
_FLAGS, _SYN, _SYN_OR_ACK = 13, 0x02, 0x12
_LOAD_BYTE, _AND, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x54, 0x15, 0x06
_PASS, _DROP = 0xFFFFFFFF, 0


def take_nobody_new(descriptor: int) -> None:
    """Have the kernel drop what would begin a connection to the socket; its sender tries again a second later.

    Who has connected by then is in the queue to be accepted, and closing the socket afterwards resets nobody. Does
    nothing where the system has no such filters, as outside Linux.
    """
    if sys.platform != "linux":
        return
    program = b"".join(
        struct.pack("HBBI", *instruction)
        for instruction in (
            (_LOAD_BYTE, 0, 0, _FLAGS),
            (_AND, 0, 0, _SYN_OR_ACK),
            (_JUMP_IF_EQUAL, 0, 1, _SYN),
            (_RETURN, 0, 0, _DROP),
            (_RETURN, 0, 0, _PASS),
        )
    )
    code = ctypes.create_string_buffer(program)
    with socket.socket(fileno=os.dup(descriptor)) as listening, suppress(OSError):
        filtering = struct.pack("HL", len(program) // 8, ctypes.addressof(code))
        listening.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filtering)
