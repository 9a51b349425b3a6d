"""The HTTP/2 transport under the push senders: one connection to one provider, over pyreqwest (Rust: hyper, rustls).

Chosen by measurement: 57 µs of CPU a POST where pyqwest takes 165 µs (`tests/contract/test_transport.py` holds both to
one table of faults). The price: after a lost connection hyper does not say which of the requests were processed.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Protocol

from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import ClientClosedError, DetailedPyreqwestError, RequestTimeoutError

_PROVEN_UNSENT = ("client error (Connect)", "refused stream before processing any application logic")
"""Causes, in the words of hyper and h2, that rule out processing: no connection came about, or REFUSED_STREAM
(RFC 9113 §8.7). The version of pyreqwest is pinned, and the contract suite provokes each."""
_ON_CONNECTION = "client error (SendRequest)"
"""The connection ended. Also named where a PING stayed unanswered, which pyreqwest calls a timeout."""

_CLOSE_PAUSE = 0.2
"""Seconds. A process that ended sooner after closing a client was seen to abort in the Rust runtime, 5 of 40 times."""

_NO_REQUEST = "an address or a header that no request can have"
_LONGEST_WAIT = 24 * 3600.0


class NotSent(Exception):
    """The provider has not processed the request, for certain: it may be sent again at once."""

    def __init__(self, reason: str = "connect_error") -> None:
        super().__init__(reason)
        self.reason = reason


class UnknownOutcome(Exception):
    """The request left, or may have left, and no answer came: it may have been processed."""

    def __init__(self, reason: str, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timed_out = timed_out


class Response:
    """An answer, read to its end."""

    __slots__ = ("body", "header", "origin", "status")

    def __init__(
        self, status: int, body: bytes, header: Callable[[str], str | None], origin: "Transport | None" = None
    ) -> None:
        self.status = status
        self.body = body
        self.header = header
        """Value of a header by its name in any case; None where absent."""
        self.origin = origin
        """The transport that brought it."""

    def retry_after(self, now: float) -> float | None:
        """Seconds to wait from Unix time `now`, if the provider said so: a number or a date (RFC 9110 §10.2.3)."""
        text = self.header("retry-after")
        if text is None:
            return None
        if text.isascii() and text.isdigit():
            return min(float(text), _LONGEST_WAIT)
        try:
            wait = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, TypeError):
            return None
        return min(max(0.0, wait), _LONGEST_WAIT)


class Transport(Protocol):
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Raises `NotSent`, `UnknownOutcome`, and ValueError for what cannot be a request. No redirect is followed."""

    async def close(self) -> None: ...


class Http2Transport:
    """`timeout` is in seconds, from sending to the last byte of the answer; connecting may take half of it.

    A cancelled `post` is not taken back: the request completes without us. Errors carry no address: the URL names
    the device.
    """

    def __init__(self, ca_pem: bytes | None, timeout: float, unread_status: int | None = None) -> None:
        """An answer of `unread_status` is known to have no body: not asking for it saves an eighth of a call."""
        self._client = _build(ca_pem, timeout)
        self._unread_status = unread_status

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        try:
            answer = await self._client.post(url).headers(headers).body_bytes(body).build().send()
            content = b"" if answer.status == self._unread_status else bytes(await answer.bytes())
            return Response(answer.status, content, answer.get_header, self)
        except DetailedPyreqwestError as error:
            raise _classify(error) from None
        except ValueError:
            raise ValueError(_NO_REQUEST) from None

    async def close(self) -> None:
        await self._client.close()
        await asyncio.sleep(_CLOSE_PAUSE)


def _build(ca_pem: bytes | None, timeout: float) -> Client:
    """Prior knowledge of HTTP/2, or a cold burst would open a connection for each request.

    The PINGs go out only while requests wait for an answer; an idle connection is kept, as Apple asks.
    """
    third = timedelta(seconds=timeout / 3)
    builder = (
        ClientBuilder()
        .http2_prior_knowledge()
        .https_only(True)
        .follow_redirects(False)
        .referer(False)
        .no_proxy()
        .user_agent("automata-signal")
        .timeout(timedelta(seconds=timeout))
        .connect_timeout(timedelta(seconds=timeout / 2))
        .pool_idle_timeout(None)
        .http2_keep_alive_interval(third)
        .http2_keep_alive_timeout(third)
    )
    return (builder if ca_pem is None else builder.add_root_certificate_pem(ca_pem)).build()


def _classify(error: DetailedPyreqwestError) -> NotSent | UnknownOutcome | ValueError:
    if isinstance(error, ValueError):
        return ValueError(_NO_REQUEST)
    causes = [cause["message"] for cause in error.details.get("causes") or ()]
    if any(sign in cause for cause in causes for sign in _PROVEN_UNSENT):
        return NotSent()
    if isinstance(error, RequestTimeoutError) and _ON_CONNECTION not in causes:
        return UnknownOutcome("timeout", timed_out=True)
    return UnknownOutcome("closed" if isinstance(error, ClientClosedError) else "connection_lost")


def https_origin(url: str) -> str:
    """The URL without a slash at its end. Raises ValueError for what no transport of ours would call."""
    if not url.startswith("https://"):
        raise ValueError("a provider's URL begins with https://")
    return url.rstrip("/")


def read_ca(ca_file: str | None) -> bytes | None:
    """PEM certificates to trust beside the built-in ones; None: no further ones. Raises OSError."""
    return None if ca_file is None else Path(ca_file).read_bytes()
