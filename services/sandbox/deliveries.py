"""The last requests, with their text: bounded rings of encoded JSON, one of accepted and a smaller one of refused."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

import msgspec
from msgspec import Struct

from services.sandbox.exchange import Delivery, Headers, Verdict

REFUSED_SHARE = 50
"""One refused request is kept for so many accepted ones, at least 100."""
UNSHOWN_HEADERS = frozenset(
    {"authorization", "proxy-authorization", "cookie", "accept", "accept-encoding", "content-length", "host"}
)
"""Secrets, and what says nothing about the message."""


class Kept(Struct, frozen=True, gc=False):
    number: int
    """Rises with every request kept; tells a page what is new."""
    message_id: str | None
    token: str
    text: bytes
    """A `Delivery` as JSON."""


class Ring:
    """A queue bounded by number and by bytes of text; the oldest go first."""

    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._bytes = 0
        self.items: deque[Kept] = deque()

    def add(self, kept: Kept) -> None:
        self.items.append(kept)
        self._bytes += len(kept.text)
        while len(self.items) > self._max_items or self._bytes > self._max_bytes:
            self._bytes -= len(self.items.popleft().text)


class Deliveries:
    def __init__(self, max_items: int, max_bytes: int) -> None:
        self._bounds = (max_items, max_bytes)
        self._encode = msgspec.json.Encoder().encode
        self.newest = 0
        """Number of the request kept last."""
        self.reset()

    def reset(self) -> None:
        """Forget what was kept."""
        max_items, max_bytes = self._bounds
        self._accepted = Ring(max_items, max_bytes)
        self._refused = Ring(max(100, max_items // REFUSED_SHARE), max(1, max_bytes // REFUSED_SHARE))

    def record(
        self, verdict: Verdict, headers: Headers, body: bytes, at: str, reason: str | None, accepted: bool
    ) -> None:
        """Keep one request. `reason` is None when it was accepted and answered."""
        shown = {name: value for name, value in headers.items() if name not in UNSHOWN_HEADERS}
        delivery = Delivery(
            verdict.provider,
            verdict.token,
            verdict.message_id,
            shown,
            msgspec.Raw(body) if accepted else _payload(body),
            at,
            accepted,
            reason,
        )
        self.newest += 1
        kept = Kept(self.newest, verdict.message_id, verdict.token, self._encode(delivery))
        (self._accepted if accepted else self._refused).add(kept)

    def find(
        self, message_id: str | None, token: str | None, limit: int | None, *, accepted: bool = True
    ) -> list[Kept]:
        """Those that fit both filters, oldest first; the newest `limit` of them."""
        ring = self._accepted if accepted else self._refused
        fitting = (
            kept
            for kept in reversed(ring.items)
            if (message_id is None or kept.message_id == message_id) and (token is None or kept.token == token)
        )
        return list(islice(fitting, limit))[::-1]

    def since(self, number: int, limit: int) -> list[Kept]:
        """Accepted and refused ones after `number`, oldest first; the newest `limit` of them."""
        found = [*_after(self._accepted, number, limit), *_after(self._refused, number, limit)]
        return sorted(found, key=lambda kept: kept.number)[-limit:]


def _after(ring: Ring, number: int, limit: int) -> Iterator[Kept]:
    for kept in islice(reversed(ring.items), limit):
        if kept.number <= number:
            return
        yield kept


def _payload(body: bytes) -> object:
    """The body as JSON if it is any, for requests refused before or because of it."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
