"""Ask a process on this machine whether it is ready."""

import asyncio
import http.client
from urllib.parse import urlsplit

_TIMEOUT = 3.0


async def answers_ok(url: str) -> bool:
    """True when GET `url` (plain http) answers 200 within 3 seconds."""
    return await asyncio.to_thread(_answers_ok, url)


def _answers_ok(url: str) -> bool:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT)
    try:
        connection.request("GET", parts._replace(scheme="", netloc="").geturl())
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
