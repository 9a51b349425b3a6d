"""Our own end of a client's connection, found among the process' sockets.

The HTTP server is compiled and lets no handler touch its connections. They are this process' descriptors all the same:
a duplicate of one is enough to cut it for real.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

DESCRIPTORS = Path("/dev/fd")


def socket_number(port: int, peer: str) -> int:
    """A number that is the connection's own, even if `peer` comes again with another one; 0 when it is gone."""
    for found, address in _connections(port):
        if address == _plain(peer):
            return os.fstat(found.fileno()).st_ino
    return 0


def cut(port: int, peer: str | None = None) -> None:
    """Cut the connection of client `peer` to our server on `port`, or all of them: no answer, no TLS farewell."""
    for found, address in _connections(port):
        if peer is None or address == _plain(peer):
            with suppress(OSError):  # The client was faster.
                found.shutdown(socket.SHUT_RDWR)


def listeners(port: int) -> int:
    """How many sockets of this process accept connections on `port`."""
    return sum(1 for found in _sockets() if _local_port(found) == port and _is_listening(found))


def refuse_taken(host: str, port: int) -> None:
    """Raise OSError if somebody else listens on the port: a shared port would silently split the traffic."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(f"{host}:{port}: {error.strerror}") from None


def _plain(peer: str) -> str:
    return peer.replace("[", "").replace("]", "")


def _sockets() -> Iterator[socket.socket]:
    """A duplicate of each TCP socket of this process, closed after use."""
    for entry in list(DESCRIPTORS.iterdir()):
        found = _duplicate(int(entry.name))
        if found is not None:
            with found:
                yield found


def _duplicate(descriptor: int) -> socket.socket | None:
    """A TCP socket of our own on what `descriptor` stands for; None if it is anything else, or gone meanwhile."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return None
        copy = os.dup(descriptor)
    except OSError:
        return None
    try:
        found = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None
    if found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM:
        return found
    found.close()
    return None


def _connections(port: int) -> Iterator[tuple[socket.socket, str]]:
    """Accepted connections of the server on `port`, each with its client's `address:port`."""
    for found in _sockets():
        if _local_port(found) != port or _is_listening(found):
            continue
        with suppress(OSError):  # Not connected any more.
            address, peer_port = found.getpeername()[:2]
            yield found, f"{address}:{peer_port}"


def _local_port(found: socket.socket) -> int:
    try:
        return int(found.getsockname()[1])
    except OSError:
        return 0


def _is_listening(found: socket.socket) -> bool:
    return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
