"""Ask a process on this machine whether it is ready, or what it lacks."""

import asyncio
import http.client
from urllib.parse import urlsplit

_TIMEOUT = 3.0


async def answers_ok(url: str) -> bool:
    """True when GET `url` (plain http) answers 200 within 3 seconds."""
    return await asyncio.to_thread(_answers_ok, url)


async def answer_of(url: str) -> tuple[int, bytes]:
    """Status and text that GET `url` (plain http) is answered with; 0 where nobody answers within 3 seconds."""
    return await asyncio.to_thread(_answer_of, url)


def _answers_ok(url: str) -> bool:
    return _answer_of(url)[0] == http.client.OK


def _answer_of(url: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT)
    try:
        connection.request("GET", parts._replace(scheme="", netloc="").geturl())
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
