"""Ports on the loopback interface, below the range from which the kernel takes ports of outgoing connections.

A port of that range could be taken by some client while its server is being restarted.
"""

import random
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.cli.failure import Failure

HOST = "127.0.0.1"
_LOWEST = 10_240
_TRIES = 200


def choose(names: Sequence[str], base: int | None, remembered: Mapping[str, int]) -> dict[str, int]:
    """One port for each name: `base`, `base + 1`, … if `base` is given, else the remembered one, else any free one.

    Raises `Failure` for a port that was asked for and is taken.
    """
    if base is not None:
        return _consecutive(names, base)
    chosen: dict[str, int] = {}
    for name in names:
        port = remembered.get(name)
        if port is None or port in chosen.values() or not is_free(port):
            port = _any_free(set(chosen.values()) | set(remembered.values()))
        chosen[name] = port
    return chosen


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def _consecutive(names: Sequence[str], base: int) -> dict[str, int]:
    chosen = {name: base + offset for offset, name in enumerate(names)}
    for name, port in chosen.items():
        if not is_free(port):
            raise Failure(
                f"port {port} (for {name}) is taken or not allowed",
                f"{len(names)} ports in a row are needed: choose another --port-base, or leave it out to use free ones",
            )
    return chosen


def _any_free(avoid: set[int]) -> int:
    below = _first_ephemeral()
    for _ in range(_TRIES):
        port = random.randrange(_LOWEST, below)  # noqa: S311 - nothing secret
        if port not in avoid and is_free(port):
            return port
    raise Failure(f"no free port between {_LOWEST} and {below}", "end what takes them, or choose --port-base")


def _first_ephemeral() -> int:
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768
    return lowest if lowest > _LOWEST + 2 * _TRIES else 65_536
