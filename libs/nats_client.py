"""How a NATS connection is made, so that it is found again after whatever happened to it."""

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from libs import telemetry

_log = telemetry.logger("nats")


async def connect(url: str, name: str) -> Client:
    """To any of the servers that `url` names, with commas between them; again and again, as long as it takes."""
    client = Client()
    client._transport = _Connection()  # type: ignore[no-untyped-call]  # noqa: SLF001
    servers = [server.strip() for server in url.split(",")]

    async def on_error(error: Exception) -> None:
        _log.debug("nats_error", error_type=type(error).__name__)

    await client.connect(
        servers,
        **_credentials(servers[0]),
        name=name,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds; a float works, the annotation is narrow
        connect_timeout=2,
        ping_interval=5,
        max_outstanding_pings=2,
        error_cb=on_error,
    )
    return client


def server_id(client: Client) -> str:
    """Of the server that `client` is connected to; it has another after each start."""
    return str(client._server_info.get("server_id", ""))  # noqa: SLF001 - nats-py tells nobody


def _credentials(url: str) -> dict[str, Any]:
    """User and password, or token, as options: servers that the cluster itself names come without any."""
    found = urlsplit(url)
    if found.username is None:
        return {}
    if found.password is None:
        return {"token": unquote(found.username)}
    return {"user": unquote(found.username), "password": unquote(found.password)}


class _Connection(TcpTransport):
    """uvloop answers a write to a closed connection with RuntimeError, at which nats-py stops writing for good, and
    thinks that it is connected: it knows what to do about an OSError."""

    def __bool__(self) -> bool:
        return True  # or nats-py would make one of its own

    def write(self, payload: bytes) -> None:
        with _as_lost():
            super().write(payload)  # type: ignore[no-untyped-call]  # nats-py leaves it without types

    def writelines(self, payload: list[bytes]) -> None:
        with _as_lost():
            super().writelines(payload)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def _as_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise ConnectionResetError(str(error)) from None
