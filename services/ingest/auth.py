"""Who is calling: API keys and subscription secrets, known by their SHA-256 only, asked from their owners, and
remembered briefly."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable
from typing import Generic, NamedTuple, TypeVar

import msgspec

from libs import rpc
from libs.bearer import digest_of
from libs.bus import Bus
from libs.clock import Clock
from libs.errors import AuthenticationFailed, PermissionDenied

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

HEADER = "X-API-Key"
SECRET_HEADER = "X-Subscription-Secret"
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
        self._entries: OrderedDict[Hashable, tuple[float, V]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        entry = self._entries.get(key)
        if entry is None or entry[0] <= self._clock.monotonic():
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: Hashable, value: V, since: float | None = None) -> None:
        """`since`: the moment, by the monotonic clock, from which it counts as old; None: now."""
        start = self._clock.monotonic() if since is None else since
        self._entries[key] = (start + self._seconds, value)
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_REMEMBERED:
            self._entries.popitem(last=False)


class Questions(Generic[K, V]):
    """Answers about keys of one kind, asked once at a time each, and remembered.

    What was refused is remembered apart, so that guessing evicts nothing good. An answer's age counts from the moment
    it was asked for: one that was long on its way may be about what has been revoked since.
    """

    def __init__(self, ask: Callable[[K], Awaitable[V]], clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self.known = Memory[V](KNOWN_FOR, clock)
        self._refused = Memory[bool](UNKNOWN_FOR, clock)
        self._asking: dict[K, asyncio.Task[V]] = {}

    async def settle(self, key: K) -> V:
        """Raises `AuthenticationFailed`; `ServiceUnavailable` where nobody can tell."""
        known = self.known.get(key)
        if known is not None:
            return known
        if self._refused.get(key):
            raise AuthenticationFailed
        return await asyncio.shield(self._question(key))

    def _question(self, key: K) -> asyncio.Task[V]:
        """The one question under way about this key: all who ask meanwhile share its answer."""
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.create_task(self._put_question(key))
            task.add_done_callback(lambda done: self._answered(key, done))
        return task

    def _answered(self, key: K, task: asyncio.Task[V]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # seen here too, for when every caller has gone

    async def _put_question(self, key: K) -> V:
        asked_at = self._clock.monotonic()
        try:
            found = await self._ask(key)
        except AuthenticationFailed:
            self._refused.put(key, True)
            raise
        self.known.put(key, found, asked_at)
        return found


class Keys:
    """Tells callers by their key."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._questions = Questions[bytes, Caller](self._ask, clock)

    async def identify(self, key: str | None) -> Caller:
        """Raises `AuthenticationFailed`; `ServiceUnavailable` where nobody can tell."""
        if not key:
            raise AuthenticationFailed(header=HEADER)
        digest = digest_of(key)
        known = self._questions.known.get(digest)
        if known is not None:
            return known
        try:
            return await self._questions.settle(digest)
        except AuthenticationFailed:
            raise AuthenticationFailed(header=HEADER) from None

    async def _ask(self, digest: bytes) -> Caller:
        found = await self._bus.call("application", "authenticate", rpc.Authenticate(digest), rpc.Principal)
        return Caller(
            application_id=found.application_id,
            actor=f"key:{found.key_id}",
            scopes=frozenset(found.scopes),
            tier=found.tier,
            identity_required=found.identity_required,
            identity_public_key=found.identity_public_key,
        )


class _Secret(NamedTuple):
    application_id: str
    digest: bytes


class Secrets:
    """Tells which subscription the holder of a `client` key speaks for, by the secret that came with it."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._questions = Questions[_Secret, str](self._ask, clock)

    async def bearer(self, caller: Caller, secret: str) -> Caller:
        """`caller` with its subscription. Raises `AuthenticationFailed` for a secret of none of the application's."""
        try:
            found = await self._questions.settle(_Secret(caller.application_id, digest_of(secret)))
        except AuthenticationFailed:
            raise AuthenticationFailed(header=SECRET_HEADER) from None
        return msgspec.structs.replace(caller, subscription_id=found)

    async def _ask(self, secret: _Secret) -> str:
        question = rpc.VerifySecret(secret.application_id, secret.digest)
        return (await self._bus.call("subscription", "verify_secret", question, rpc.Bearer)).subscription_id
