"""THE STATE MACHINE: a message's status is a fold of its events, the same for any order and any repetition (R3).

    pending ──sent──> successful ──received──> received ──converted──> converted
       │  └─errored─> errored ──retried──> pending        (a receipt may come before the outcome of the send)
       ├──cancelled──> cancelled
       └──failed | expired | superseded | bounced──> failed

`services/lifecycle/queries.py` has the same fold as set-based SQL; a property test holds the two together, and the
CHECKs of `deploy/sql` repeat the two lists below.
"""

from collections.abc import Iterable
from typing import Any, Literal, get_args

import msgspec

Status = Literal["pending", "successful", "failed", "errored", "received", "converted", "cancelled"]
STATUSES: tuple[Status, ...] = get_args(Status)
FINAL: frozenset[Status] = frozenset({"successful", "failed", "received", "converted", "cancelled"})
"""Nothing more is sent for a message in one of these; a receipt may still raise it."""

Kind = Literal[
    "created",
    "scheduled",
    "held",
    "routed",
    "intent",
    "retried",
    "sent",
    "errored",
    "failed",
    "expired",
    "superseded",
    "bounced",
    "cancelled",
    "received",
    "converted",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
FAILING: frozenset[Kind] = frozenset({"failed", "expired", "superseded", "bounced"})
RECEIPT_TIMEOUT = "receipt_timeout"


class Event(msgspec.Struct, frozen=True):
    """One fact. Its identity is (message_id, kind, attempt, key): appended again it changes nothing (R4)."""

    message_id: str
    kind: Kind
    attempt: int
    key: str
    occurred_at_ms: int
    reason: str | None = None
    data: dict[str, Any] = {}


class Projection(msgspec.Struct, frozen=True):
    """What the events of one message amount to. Times are Unix milliseconds."""

    status: Status
    attempt: int
    reason: str | None = None
    sent_at_ms: int | None = None
    received_at_ms: int | None = None
    converted_at_ms: int | None = None
    failed_at_ms: int | None = None
    cancelled_at_ms: int | None = None


def fold(events: Iterable[Event]) -> Projection:
    """The total order of DECISIONS: converted, received, sent, cancelled, then the highest attempt's state."""
    facts = list({(e.kind, e.attempt, e.key): e for e in events}.values())
    attempt = max((e.attempt for e in facts), default=1)
    verdict = _verdict(facts, attempt)
    status = _status(facts, attempt, verdict)
    return Projection(
        status=status,
        attempt=attempt,
        reason=verdict.reason if verdict is not None and status in ("failed", "errored") else None,
        sent_at_ms=_first(facts, {"sent"}),
        received_at_ms=_first(facts, {"received", "converted"}),
        converted_at_ms=_first(facts, {"converted"}),
        failed_at_ms=verdict.occurred_at_ms if verdict is not None and status == "failed" else None,
        cancelled_at_ms=_first(facts, {"cancelled"}),
    )


def _status(facts: list[Event], attempt: int, verdict: Event | None) -> Status:
    kinds = {e.kind for e in facts}
    if "converted" in kinds:
        return "converted"
    if "received" in kinds:
        return "received"
    if {e.attempt for e in facts if e.kind == "sent"} - {e.attempt for e in facts if _withdraws(e)}:
        return "successful"
    if any(e.kind == "cancelled" and e.attempt >= attempt for e in facts):
        return "cancelled"
    if verdict is None:
        return "pending"
    return "errored" if verdict.kind == "errored" else "failed"


def _verdict(facts: list[Event], attempt: int) -> Event | None:
    """What the highest attempt came to: failed before errored; among equals the smallest (time, key, kind)."""
    latest = [e for e in facts if e.attempt == attempt]
    bad = [e for e in latest if e.kind in FAILING] or [e for e in latest if e.kind == "errored"]
    return min(bad, key=lambda e: (e.occurred_at_ms, e.key, e.kind), default=None)


def _withdraws(event: Event) -> bool:
    """A bounce or a missing receipt takes back the `sent` of its own attempt."""
    return event.kind == "bounced" or (event.kind == "failed" and event.reason == RECEIPT_TIMEOUT)


def _first(facts: list[Event], kinds: set[str]) -> int | None:
    return min((e.occurred_at_ms for e in facts if e.kind in kinds), default=None)
