"""Who is calling: API keys, known by their SHA-256 only, asked from the application service and remembered briefly."""

import asyncio
import hashlib
from collections import OrderedDict
from typing import Generic, TypeVar

import msgspec

from libs import rpc
from libs.bus import Bus
from libs.clock import Clock
from libs.errors import AuthenticationFailed, PermissionDenied

V = TypeVar("V")

HEADER = "X-API-Key"
KNOWN_FOR = 5.0
"""Seconds until a revoked key stops working here."""
UNKNOWN_FOR = 1.0
"""Seconds that a refused key is refused without asking."""
MAX_REMEMBERED = 10_000


class Caller(msgspec.Struct, frozen=True):
    """The application that a key speaks for."""

    application_id: str
    actor: str
    """`key:<id>`, for the history."""
    scopes: frozenset[str]

    def require(self, scope: str) -> None:
        """Raises `PermissionDenied`."""
        if scope not in self.scopes:
            raise PermissionDenied(scope=scope)


class Memory(Generic[V]):
    """A bounded map that forgets what is old, and the least recently used when full."""

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, V]] = OrderedDict()

    def get(self, digest: bytes) -> V | None:
        entry = self._entries.get(digest)
        if entry is None or entry[0] <= self._clock.monotonic():
            return None
        self._entries.move_to_end(digest)
        return entry[1]

    def put(self, digest: bytes, value: V) -> None:
        self._entries[digest] = (self._clock.monotonic() + self._seconds, value)
        self._entries.move_to_end(digest)
        if len(self._entries) > MAX_REMEMBERED:
            self._entries.popitem(last=False)


class Keys:
    """Tells callers by their key. Refused keys are remembered apart, so that guessing evicts no good key."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._known = Memory[Caller](KNOWN_FOR, clock)
        self._refused = Memory[bool](UNKNOWN_FOR, clock)
        self._asking: dict[bytes, asyncio.Task[Caller]] = {}

    async def identify(self, key: str | None) -> Caller:
        """Raises `AuthenticationFailed`; `ServiceUnavailable` where nobody can tell."""
        if not key:
            raise AuthenticationFailed(header=HEADER)
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        known = self._known.get(digest)
        if known is not None:
            return known
        if self._refused.get(digest):
            raise AuthenticationFailed(header=HEADER)
        return await asyncio.shield(self._question(digest))

    def _question(self, digest: bytes) -> asyncio.Task[Caller]:
        """The one question under way for this key: all who ask meanwhile share its answer."""
        task = self._asking.get(digest)
        if task is None:
            task = self._asking[digest] = asyncio.create_task(self._ask(digest))
            task.add_done_callback(lambda done: self._answered(digest, done))
        return task

    def _answered(self, digest: bytes, task: asyncio.Task[Caller]) -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # seen here too, for when every caller has gone

    async def _ask(self, digest: bytes) -> Caller:
        try:
            found = await self._bus.call("application", "authenticate", rpc.Authenticate(digest), rpc.Principal)
        except AuthenticationFailed:
            self._refused.put(digest, True)
            raise AuthenticationFailed(header=HEADER) from None
        caller = Caller(found.application_id, f"key:{found.key_id}", frozenset(found.scopes))
        self._known.put(digest, caller)
        return caller
