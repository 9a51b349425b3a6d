"""The key ring while it changes. Each process that holds it follows its file, and says on NATS which keys it has.

A new key comes in two steps, so that nobody meets a data key that it cannot unwrap: it is added to the file, and once
every process says that it knows it, it is made the active one. A process that cannot say so is not connected, and gets
no data key before it is; should it then meet a ring key that its copy of the file still lacks, it refuses as
unavailable (`RingKeyUnknown`), and the work is done a moment later.
"""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from libs import telemetry
from libs.ask_all import answers
from libs.bus import Bus, Msg
from libs.rpc import RingReport
from libs.seal import KeyRing, RingFile, RingKeyUnknown, SealError, new_secret, ring_key_of
from libs.subjects import RING

LOOK_EVERY = 2.0
"""Seconds between two looks at the file."""
HOLDERS = frozenset({"application", "subscription", "lifecycle", "dispatcher"})
"""Services that hold the ring: one of them missing is no agreement."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(RingReport).decode
_log = telemetry.logger("ring")


async def follow(ring: KeyRing, bus: Bus, service: str) -> None:
    """Keep `ring` as its file is, and answer who asks for it. Runs until cancelled."""
    follower = _Follower(ring, service)
    await bus.client.subscribe(RING, cb=follower.answer)
    while True:
        follower.look()
        await asyncio.sleep(LOOK_EVERY)


class _Follower:
    def __init__(self, ring: KeyRing, service: str) -> None:
        self._ring = ring
        self._service = service
        self._process = f"{socket.gethostname()}/{os.getpid()}"
        self._complaint = ""
        self._failures = telemetry.counter("background_failures_total", part="ring")

    def look(self) -> None:
        """A file that cannot be used is told once, and again when it fails in another way."""
        try:
            if self._ring.refresh():
                _log.info("ring_changed", active=self._ring.active, keys=self._ring.names)
            self._complaint = ""
        except SealError as error:
            self._failures.inc()
            if str(error) != self._complaint:
                _log.error("ring_kept_as_it_was", reason=str(error))
            self._complaint = str(error)

    async def answer(self, question: Msg) -> None:
        self.look()
        report = RingReport(self._service, self._process, self._ring.active, self._ring.names)
        await question.respond(_encode(report))


async def holders(bus: Bus, seconds: float = 0.5) -> list[RingReport]:
    """What every process that holds a ring says of it, within `seconds`. Raises `ServiceUnavailable`."""
    found = [_decode(payload) for payload in await answers(bus, RING, b"", seconds)]
    return sorted(found, key=lambda report: (report.service, report.process))


# the file -------------------------------------------------------------------------------------------------------------


def with_new_key(ring: RingFile) -> tuple[RingFile, str]:
    """The ring with one more key, and its name; the active key stays."""
    numbers = [int(name[1:]) for name in ring.keys if name[:1] == "k" and name[1:].isdecimal()]
    name = f"k{max(numbers, default=0) + 1}"
    return msgspec.structs.replace(ring, keys={**ring.keys, name: new_secret()}), name


def with_active(ring: RingFile, name: str) -> RingFile:
    """Raises `KeyError` for a name that is not in the ring."""
    return msgspec.structs.replace(ring, active=name, keys={name: ring.keys[name], **ring.keys})


def without_key(ring: RingFile, name: str) -> RingFile:
    return msgspec.structs.replace(ring, keys={each: key for each, key in ring.keys.items() if each != name})


def united(ring: RingFile, other: RingFile) -> RingFile:
    """`ring` with the keys that only `other` has."""
    return msgspec.structs.replace(ring, keys={**other.keys, **ring.keys})


# wrapping again -------------------------------------------------------------------------------------------------------


class Change(msgspec.Struct, frozen=True):
    """One data key that is to be stored in another wrapping."""

    place: int
    """Of the row in the page."""
    old: bytes
    new: bytes


class Page(msgspec.Struct, frozen=True):
    wraps: dict[str, int]
    changes: list[Change]
    unreadable: int


def wrapped_again(ring: KeyRing, rows: Iterable[tuple[bytes, bytes]], change: bool) -> Page:
    """What becomes of the (data key id, wrapped data key) of a page; nothing is changed unless asked for."""
    wraps: Counter[str] = Counter()
    changes: list[Change] = []
    unreadable = 0
    for place, (key_id, wrapped) in enumerate(rows):
        name = ring_key_of(wrapped)
        wraps[name] += 1
        if name == ring.active or not change:
            continue
        try:
            changes.append(Change(place, wrapped, ring.rewrap(key_id, wrapped)))
        except (SealError, RingKeyUnknown):
            unreadable += 1
    if unreadable:
        _log.error("data_keys_unreadable", count=unreadable)
    return Page(dict(wraps), changes, unreadable)


def disagreement(reports: Sequence[RingReport], expected: dict[str, int]) -> dict[str, int]:
    """How many processes of each service are missing among `reports`; empty: none."""
    found = Counter(report.service for report in reports)
    return {service: count - found[service] for service, count in expected.items() if found[service] < count}
