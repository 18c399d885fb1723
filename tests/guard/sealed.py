"""Run a command that the kernel kills when it opens an internet socket: sealed.py COMMAND ...

Where the socket guard sees Python alone, this sees all: native libraries, threads, children. Linux's seccomp filter
ends the process (SIGSYS) at socket(AF_INET or AF_INET6). It stays over exec and fork. Ends with 77 where the kernel
has no such filter.
"""

import ctypes
import os
import platform
import socket
import struct
import sys

UNABLE = 77
SOCKET_CALL = {"x86_64": 41, "aarch64": 198}
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
KILL, ALLOW = 0x80000000, 0x7FFF0000


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]


def seal() -> bool:
    """Forbid this process and its children every internet socket; whether that could be done."""
    number = SOCKET_CALL.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return False
    steps = [
        (LOAD, 0, 0, 0),  # the number of the call
        (EQUAL, 0, 4, number),
        (LOAD, 0, 0, 16),  # its first argument, the family
        (EQUAL, 1, 0, int(socket.AF_INET)),
        (EQUAL, 0, 1, int(socket.AF_INET6)),
        (RETURN, 0, 0, KILL),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", op, yes, no, k) for op, yes, no, k in steps))
    program = Program(len(steps), ctypes.cast(code, ctypes.c_void_p))
    call = ctypes.CDLL(None, use_errno=True).prctl
    return call(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 and call(SET_SECCOMP, FILTER, ctypes.byref(program), 0, 0) == 0


if __name__ == "__main__":
    if not seal():
        sys.exit(UNABLE)
    os.execvp(sys.argv[1], sys.argv[1:])
