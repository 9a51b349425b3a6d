"""What the sandbox remembers of a million requests in little memory: counts, known ids, and a ledger on disk."""

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from services.sandbox.exchange import Provider, Verdict

log = structlog.get_logger()

FLUSH_BYTES = 256 * 1024
MAX_REASONS = 256
_SALT: dict[Provider, int] = {"apns": 0x9E3779B97F4A7C15, "fcm": 0xC2B2AE3D27D4EB4F, "oauth": 0}
_MASK = 2**64 - 1


class KnownIds:
    """A set of ids with counts up to 255: an open-addressing table of 64-bit hashes outside Python's heap.

    Two of a million ids share a hash with a probability of 3e-8.
    """

    def __init__(self, capacity: int) -> None:
        slots = 1 << (capacity * 3 // 2).bit_length()
        self._mask = slots - 1
        self._left = capacity
        self._hashes = memoryview(mmap.mmap(-1, slots * 8)).cast("Q")
        self._counts = memoryview(mmap.mmap(-1, slots)).cast("B")

    def add(self, name: str, salt: int) -> int:
        """Count `name` once more and say how often it came (0: the table is full and does not know it)."""
        value = ((hash(name) & _MASK) ^ salt) or 1
        hashes, mask = self._hashes, self._mask
        slot = value & mask
        while (found := hashes[slot]) and found != value:
            slot = (slot + 1) & mask
        if not found:
            if not self._left:
                return 0
            self._left -= 1
            hashes[slot] = value
        times = min(self._counts[slot] + 1, 255)
        self._counts[slot] = times
        return times


class Tally(Struct):
    """Counts of one provider, as `GET /v1/stats` shows them."""

    requests: int = 0
    accepted: int = 0
    rejected: dict[str, int] = {}
    accepted_more_than_once: int = 0
    """Messages, by id, that were accepted at least twice."""
    duplicates: int = 0
    """Acceptances beyond the first of each message."""
    unanswered: dict[str, int] = {}
    """Requests that were hung or cut, by which."""


class Entry(Struct, gc=False):
    """One line of `GET /v1/ledger`. `at` is RFC 3339, UTC; `reason` says why it was not accepted."""

    provider: Provider
    message_id: str
    """Empty where the request named none."""
    token: str
    collapse: str | None
    accepted: bool
    at: str
    reason: str | None


class Ledger:
    """Records every request that reached a provider. Raises nothing when its disk is full: it counts what it lost."""

    def __init__(self, data_dir: Path, max_known_ids: int, max_bytes: int) -> None:
        self._data_dir = data_dir
        self._max_known_ids = max_known_ids
        self._max_bytes = max_bytes
        self._encode = msgspec.json.Encoder().encode
        self._open()

    def reset(self) -> None:
        """Forget everything."""
        self._file.close()
        self._open()

    def _open(self) -> None:
        self.tallies: dict[Provider, Tally] = {"apns": Tally(), "fcm": Tally(), "oauth": Tally()}
        self.untracked = 0
        """Acceptances whose id could not be remembered: the table was full."""
        self.unwritten = 0
        """Lines missing in the ledger: its bound was reached, or its disk refused."""
        self._known = KnownIds(self._max_known_ids)
        self._file = tempfile.TemporaryFile(dir=self._data_dir, buffering=0)  # noqa: SIM115  # lives as long as we
        self._written = 0
        self._pending = bytearray()
        self._pending_lines = 0

    def record(self, verdict: Verdict, reason: str | None, accepted: bool, at: str) -> None:
        """Count one request. `reason` is what the sender was told, or `hang`/`close`, or None."""
        tally = self.tallies[verdict.provider]
        tally.requests += 1
        if accepted:
            tally.accepted += 1
            self._count_repeat(tally, verdict)
        if reason in ("hang", "close"):
            tally.unanswered[reason] = tally.unanswered.get(reason, 0) + 1
        elif reason is not None:
            key = reason if reason in tally.rejected or len(tally.rejected) < MAX_REASONS else "other"
            tally.rejected[key] = tally.rejected.get(key, 0) + 1
        if verdict.provider != "oauth":
            name = verdict.message_id or ""
            self._write(Entry(verdict.provider, name, verdict.token, verdict.collapse, accepted, at, reason))

    def _count_repeat(self, tally: Tally, verdict: Verdict) -> None:
        if verdict.message_id is None:
            return
        times = self._known.add(verdict.message_id, _SALT[verdict.provider])
        if times == 0:
            self.untracked += 1
        elif times > 1:
            tally.duplicates += 1
            tally.accepted_more_than_once += times == 2

    def _write(self, entry: Entry) -> None:
        self._pending += self._encode(entry) + b"\n"
        self._pending_lines += 1
        if len(self._pending) >= FLUSH_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._written + len(self._pending) <= self._max_bytes:
            try:
                # Positioned, so that a write cut short by a full disk is overwritten whole by the next.
                if os.pwrite(self._file.fileno(), self._pending, self._written) == len(self._pending):
                    self._written += len(self._pending)
                    self._pending_lines = 0
            except OSError as error:
                log.error("ledger_write_failed", error=error.strerror)
        self.unwritten += self._pending_lines
        self._pending.clear()
        self._pending_lines = 0

    def lines(self, chunk: int = FLUSH_BYTES) -> Iterator[bytes]:
        """Everything recorded so far as NDJSON, in pieces."""
        self._flush()
        # A duplicate keeps the file readable when a reset drops ours meanwhile.
        descriptor, end, position = os.dup(self._file.fileno()), self._written, 0
        try:
            while position < end:
                piece = os.pread(descriptor, min(chunk, end - position), position)
                if not piece:
                    return
                position += len(piece)
                yield piece
        finally:
            os.close(descriptor)

    def stats(self) -> dict[str, Any]:
        return {
            **{name: tally for name, tally in self.tallies.items() if name != "oauth"},
            "oauth": self.tallies["oauth"],
            "ledger": {"bytes": self._written, "untracked": self.untracked, "unwritten": self.unwritten},
        }
