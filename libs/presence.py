"""Which senders live. Each says so once a second on `signal.senders`, to whoever listens now: nothing is stored."""

import asyncio
import contextlib
import os
from collections import OrderedDict

import msgspec
import nats.errors

from libs import telemetry
from libs.bus import Bus, Msg
from libs.clock import Clock
from libs.subjects import SENDERS, Region

EVERY_SECONDS = 1.0
LOST_SECONDS = 3.5
"""Silence after which a sender is no longer counted on."""
DRAINING_SECONDS = 30.0
"""A sender that is draining still has its work in hand, but not for ever."""
_INSTANCES = 1_000

_log = telemetry.logger("presence")


class Alive(msgspec.Struct, frozen=True):
    """What a sender process says of itself."""

    channel: str
    region: Region
    instance: str
    started_at_ms: int
    draining: bool = False


class _Heard(msgspec.Struct):
    word: Alive
    since: float
    """Since when it has said so without a gap."""
    at: float


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Alive).decode


class Presence:
    """Says that `own` lives, where given, and knows who else does. Silence counts only while we could have heard."""

    def __init__(self, bus: Bus, clock: Clock, own: Alive | None = None) -> None:
        self._bus = bus
        self._clock = clock
        self._own = own
        self._heard: OrderedDict[str, _Heard] = OrderedDict()
        self._connection = bus.reconnects
        self._listening_since = self._attended = clock.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        subscription = await self._bus.client.subscribe(SENDERS, cb=self._listen)
        self._listening_since = self._attended = self._clock.monotonic()
        try:
            while True:
                self.listening()
                await self._say()
                await asyncio.sleep(EVERY_SECONDS)
        finally:
            with contextlib.suppress(nats.errors.Error):
                await subscription.unsubscribe()

    async def drain(self) -> None:
        """From now on others know that this sender takes nothing new."""
        if self._own is not None:
            self._own = msgspec.structs.replace(self._own, draining=True)
            await self._say()

    async def _say(self) -> None:
        if self._own is not None and self._bus.client.is_connected:
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._bus.client.publish(SENDERS, _encode(self._own))

    async def _listen(self, message: Msg) -> None:
        try:
            self.hear(_decode(message.data))
        except msgspec.MsgspecError:
            _log.debug("unreadable_presence")

    def hear(self, word: Alive) -> None:
        now = self._clock.monotonic()
        before = self._heard.get(word.instance)
        unbroken = before is not None and before.word == word and now - before.at <= LOST_SECONDS
        self._heard[word.instance] = _Heard(word, before.since if before and unbroken else now, now)
        self._heard.move_to_end(word.instance)
        if len(self._heard) > _INSTANCES:
            self._heard.popitem(last=False)

    def listening(self) -> float:
        """Seconds for which nobody who spoke went unheard: since we listen, are connected, and were not stopped."""
        now = self._clock.monotonic()
        connected = self._bus.client.is_connected and self._connection == self._bus.reconnects
        if not connected or now - self._attended > LOST_SECONDS:
            self._connection = self._bus.reconnects
            self._listening_since = now
        self._attended = now
        return now - self._listening_since

    def silence(self, channel: str, region: str) -> float:
        """Seconds without a word of any sender of that region; one that has long been draining is not heard."""
        now = self._clock.monotonic()
        heard = [found.at for found in self._of(channel, region) if not _is_overdue(found)]
        return min(self.listening(), now - max(heard)) if heard else self.listening()

    def is_served(self, channel: str, region: str, steady: float = 0.0) -> bool:
        """True where a sender takes new work, and has said so for `steady` seconds without a gap."""
        now = self._clock.monotonic()
        return any(
            not found.word.draining and now - found.at <= LOST_SECONDS and found.at - found.since >= steady
            for found in self._of(channel, region)
        )

    def _of(self, channel: str, region: str) -> list[_Heard]:
        return [each for each in self._heard.values() if (each.word.channel, each.word.region) == (channel, region)]


def _is_overdue(found: _Heard) -> bool:
    return found.word.draining and found.at - found.since > DRAINING_SECONDS


def alive(channel: str, region: str, clock: Clock) -> Alive:
    """The first word of this process, which then has a name unlike any other."""
    return Alive(channel, region, os.urandom(8).hex(), int(clock.time() * 1000))
