"""Rotating the key ring of a running system, step by step: add, activate, wrap again, retire."""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from libs.bus import Bus
from libs.errors import ServiceUnavailable, SignalError
from libs.ring import HOLDERS, disagreement, holders, with_active, with_new_key, without_key
from libs.rpc import RewrapCredentials, RewrapDataKeys, Rewrapped, RingReport
from libs.seal import RingFile
from services.cli.datadir import write_bytes
from services.cli.failure import Failure

RETIRE_AFTER = 60.0
"""Seconds after another key became active: no request that wrapped a data key before is still under way."""
PAGE = 2_000
COUNT_PAGE = 10_000
_MAX_PASSES = 6
_TRIES = 60
_TRY_AGAIN = 0.5
_MOUNTED = "where it is a mounted secret, change a copy and then the secret itself: `automata keys --help`"

Part = tuple[str, str, Callable[[str, int, bool], msgspec.Struct]]
PARTS: tuple[Part, ...] = (
    ("credentials", "application", lambda after, limit, change: RewrapCredentials(after, limit, change)),
    ("subscriptions", "subscription", lambda *page: RewrapDataKeys("subscriptions", *page)),
    ("data keys", "subscription", lambda *page: RewrapDataKeys("data_keys", *page)),
)
"""Everything that the ring wraps: what it is, whose it is, how a page is asked for."""

OnPage = Callable[[str, int, int], None]
"""Given the part's name, rows of the page, and rows of the whole as estimated."""


class Counts(msgspec.Struct):
    """What a walk over everything found."""

    wraps: dict[str, dict[str, int]] = {}
    """Ring key to part to how many data keys it wrapped."""
    rewrapped: int = 0
    unreadable: int = 0

    def under(self, name: str) -> int:
        return sum(self.wraps.get(name, {}).values())


class Rotated(msgspec.Struct, frozen=True):
    active: str
    rewrapped: int
    passes: int
    unreadable: int
    seconds: float


# the file -------------------------------------------------------------------------------------------------------------


def read_ring(path: Path) -> RingFile:
    """Raises `Failure` without showing any of it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RingFile)
    except (OSError, msgspec.MsgspecError) as error:
        raise Failure(f"the key ring {path} cannot be read: {type(error).__name__}", "name it with --ring") from None


@contextlib.contextmanager
def changing(path: Path) -> Iterator[Callable[[RingFile], None]]:
    """A function that replaces the file at once; nobody else changes it meanwhile. Raises `Failure`."""
    try:
        lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Failure(f"the key ring {path} cannot be changed: {error.strerror}", _MOUNTED) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lambda ring: _replace(path, ring)
    finally:
        os.close(lock)


def _replace(path: Path, ring: RingFile) -> None:
    owner = path.stat()
    try:
        write_bytes(path, msgspec.json.encode(ring))
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        raise Failure(f"the key ring {path} cannot be written: {error.strerror}", _MOUNTED) from None


def add_key(path: Path) -> str:
    """Step one: a key that everybody may unwrap with, and nobody wraps with. One that waits already is taken."""
    with changing(path) as write:
        ring = read_ring(path)
        waiting = [name for name in ring.keys if _number(name) > _number(ring.active)]
        if waiting:
            return max(waiting, key=_number)
        more, name = with_new_key(ring)
        write(more)
    return name


def make_active(path: Path, name: str) -> None:
    """Step two. Raises `Failure` for an unknown key."""
    with changing(path) as write:
        ring = read_ring(path)
        if name not in ring.keys:
            raise Failure(f"there is no key {name} in the ring", f"it has {', '.join(ring.keys)}")
        if ring.active != name:
            write(with_active(ring, name))


def _number(name: str) -> int:
    return int(name[1:]) if name[:1] == "k" and name[1:].isdecimal() else 0


# agreement ------------------------------------------------------------------------------------------------------------


def at_least_one() -> dict[str, int]:
    return dict.fromkeys(HOLDERS, 1)


async def agreed(
    bus: Bus, expected: Mapping[str, int], what: str, agrees: Callable[[RingReport], bool], wait: float
) -> list[RingReport]:
    """Wait until every process that holds the ring says so, twice in a row. Raises `Failure` naming who does not."""
    deadline, in_a_row = time.monotonic() + wait, 0
    while True:
        reports = await holders(bus)
        missing = disagreement(reports, dict(expected))
        behind = [f"{report.service} {report.process}" for report in reports if not agrees(report)]
        in_a_row = 0 if missing or behind else in_a_row + 1
        if in_a_row == 2:
            return reports
        if time.monotonic() > deadline:
            absent = [f"{service} ({count} do not answer)" for service, count in missing.items()]
            raise Failure(
                f"not every process {what}: {', '.join(behind + absent)}",
                "nothing is lost: when they run and their ring file is the new one, give the same command again",
            )


# wrapping again -------------------------------------------------------------------------------------------------------


async def walk(bus: Bus, change: bool, on_page: OnPage) -> Counts:
    """Over everything that is wrapped, once. Raises `Failure` when a service stays away."""
    counts = Counts(wraps={})
    for name, service, request in PARTS:
        after: str | None = ""
        while after is not None:
            page = await _page(bus, service, request(after, PAGE if change else COUNT_PAGE, change))
            for key, wrapped in page.wraps.items():
                by_part = counts.wraps.setdefault(key, {})
                by_part[name] = by_part.get(name, 0) + wrapped
            counts.rewrapped += page.rewrapped
            counts.unreadable += page.unreadable
            on_page(name, sum(page.wraps.values()), page.total)
            after = page.next_after
    return counts


async def _page(bus: Bus, service: str, request: msgspec.Struct) -> Rewrapped:
    """A service that restarts is waited for: a page that was half done is simply done again."""
    for _ in range(_TRIES):
        try:
            return await bus.call(service, "rewrap", request, Rewrapped, timeout=20)
        except ServiceUnavailable:
            await asyncio.sleep(_TRY_AGAIN)
        except SignalError as error:
            raise Failure(f"{service} could not wrap data keys again: {error.code}", "look into its log") from None
    raise Failure(f"{service} does not answer", "when it runs, `automata keys rewrap` goes on")


async def rewrap_all(bus: Bus, active: str, on_page: OnPage) -> Rotated:
    """Until a whole walk finds nothing under another key: what was inserted behind the first one is met by the next."""
    began, rewrapped = time.monotonic(), 0
    for passes in range(1, _MAX_PASSES + 1):
        counts = await walk(bus, True, on_page)
        rewrapped += counts.rewrapped
        others = sum(counts.under(name) for name in counts.wraps if name != active)
        if others == counts.unreadable:
            return Rotated(active, rewrapped, passes, counts.unreadable, time.monotonic() - began)
    raise Failure(
        f"other keys than {active} are still being used for wrapping", "`automata keys status` shows by which process"
    )


async def rotate(
    bus: Bus, path: Path, expected: Mapping[str, int], wait: float, on_page: OnPage, say: Callable[[str], None]
) -> Rotated:
    """All steps, where the processes read this very file. Interrupted, it goes on where it was. Raises `Failure`."""
    name = add_key(path)
    say(f"{name} is in the ring")
    await agreed(bus, expected, f"knows {name}", lambda report: name in report.keys, wait)
    make_active(path, name)
    await agreed(bus, expected, f"wraps with {name}", lambda report: report.active == name, wait)
    say(f"{name} is active: wrapping data keys again")
    return await rewrap_all(bus, name, on_page)


def _expect_settled(path: Path, settle: float) -> None:
    left = path.stat().st_mtime + settle - time.time()
    if left > 0:
        raise Failure(f"the ring was changed {settle - left:.0f} s ago", f"try again in {left:.0f} s")


async def retire(
    bus: Bus, path: Path, name: str, expected: Mapping[str, int], on_page: OnPage, settle: float = RETIRE_AFTER
) -> None:
    """Take a key out of the file. Raises `Failure` while anything is wrapped by it, or may still come to be."""
    with changing(path) as write:
        ring = read_ring(path)
        if name not in ring.keys:
            raise Failure(f"there is no key {name} in the ring", f"it has {', '.join(ring.keys)}")
        if name == ring.active:
            raise Failure(f"{name} is the active key", "`automata keys rotate` puts another in its place")
        await agreed(bus, expected, f"wraps with {ring.active}", lambda report: report.active == ring.active, 5.0)
        _expect_settled(path, settle)
        wrapped = (await walk(bus, False, on_page)).under(name)
        if wrapped:
            raise Failure(f"{name} still wraps {wrapped} data keys", "`automata keys rewrap` wraps them again")
        write(without_key(ring, name))
