"""Who is calling: API keys, known by their SHA-256 only, asked from the application service and remembered briefly."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Collection
from typing import Generic, TypeVar

import msgspec

from libs import rpc
from libs.bus import Bus
from libs.clock import Clock
from libs.errors import AuthenticationFailed, PermissionDenied

V = TypeVar("V")

HEADER = "X-API-Key"
KNOWN_FOR = 4.0
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
    tier: rpc.Tier = "default"
    subscription_id: str | None = None
    """The subscription whose secret came with a `client` key."""
    identity_required: bool = False
    identity_public_key: str | None = None

    def require(self, scopes: Collection[str]) -> None:
        """Raises `PermissionDenied` unless the key has one of them."""
        if self.scopes.isdisjoint(scopes):
            raise PermissionDenied(scopes=sorted(scopes))

    @property
    def bearer_only(self) -> bool:
        """True for `client` keys, which lie in every copy of an app: they prove nothing."""
        return self.scopes == {"client"}


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
        caller = Caller(
            application_id=found.application_id,
            actor=f"key:{found.key_id}",
            scopes=frozenset(found.scopes),
            tier=found.tier,
            identity_required=found.identity_required,
            identity_public_key=found.identity_public_key,
        )
        self._known.put(digest, caller)
        return caller
