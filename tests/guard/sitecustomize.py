"""The socket guard: in a Python process that loads this, nothing connects or looks a name up beyond the machine itself.

Python loads a module of this name at its start from PYTHONPATH, so that every process that the tests start has the
guard too, forked and spawned ones among them. An audit hook sees what Python's C code does, whichever library asks,
and cannot be taken out again. What it refuses it raises as a BaseException: `except Exception` must not hide it. It
also notes it in the file that IMAGIER_GUARD names, for what is tried where nobody hears: a fork, a thread.

Networking by native code is out of its sight; test_guard.py forbids that to a whole run, by the kernel.
"""

import ipaddress
import os
import socket
import sys

LOG = "IMAGIER_GUARD"
OWN = {None, "", b"", "localhost", b"localhost"}
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy")


class NetworkUsed(BaseException):
    """A connection or a look-up that left the machine."""


def own(host):
    """Whether a host, as given, is this machine's own without asking anyone."""
    if host in OWN:
        return True
    try:
        text = host.decode() if isinstance(host, bytes) else str(host)
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def leaves(event, arguments):
    """Where to an audited event would go, where that is beyond the machine; None where it would not."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        sock, address = arguments
        if address is None or sock.family == getattr(socket, "AF_UNIX", None):
            return None
        inet = sock.family in (socket.AF_INET, socket.AF_INET6)
        return None if inet and own(address[0]) else address
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        return None if own(arguments[0]) else arguments[0]
    if event == "socket.getnameinfo":
        return None if own(arguments[0][0]) else arguments[0]
    return None


def hook(event, arguments):
    """The audit hook."""
    if not event.startswith("socket."):
        return
    where = leaves(event, arguments)
    if where is None:
        return
    if path := os.environ.get(LOG):
        with open(path, "a", encoding="utf-8") as out:
            out.write(f"{os.getpid()} {event} {where!r}\n")
    raise NetworkUsed(f"{event} to {where!r}: nothing may leave this machine while it is tested")


for name in PROXIES:  # a proxy on this machine would carry out what must not leave it
    os.environ.pop(name, None)
    os.environ.pop(name.upper(), None)

# Once a process: conftest.py loads this too, where Python did not.
if not getattr(sys, "imagier_guard", False):
    sys.imagier_guard = True
    sys.addaudithook(hook)
