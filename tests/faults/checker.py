"""The outside checker: joins what the client was told, what the sandbox saw and what the log says (I1-I5). Pure.

Each rule takes the evidence and the allowance and yields what it found to be wrong; `check` runs them all.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import get_args

import msgspec

from libs.message import FINAL, Event, Kind, Projection, fold
from tests.faults.ledger import Allowance, Call, Evidence, Fact, Identity, Place, Row

_KINDS: frozenset[str] = frozenset(get_args(Kind))


class Finding(msgspec.Struct, frozen=True):
    rule: str
    text: str
    message_ids: list[str] = []


Rule = Callable[[Evidence, Allowance], Iterator[Finding]]


def check(evidence: Evidence, allowance: Allowance) -> list[Finding]:
    """Everything that is wrong; an empty list is what every test wants."""
    return [finding for rule in RULES for finding in rule(evidence, allowance)]


def every_request_was_answered(evidence: Evidence, _: Allowance) -> Iterator[Finding]:
    """A request that is repeated gets its answer in the end, and one answer for each item."""
    for request in evidence.client.requests:
        label = f"request {request.number} ({request.path})"
        if request.state in ("unanswered", "open"):
            answers = Counter(attempt.answer for attempt in request.attempts)
            yield Finding("answered", f"{label}: no answer after {len(request.attempts)} tries: {dict(answers)}")
        elif request.state == "answered":
            if len(request.accepted) + len(request.refused) != len(request.subscriptions):
                yield Finding("answered", f"{label}: {len(request.subscriptions)} items, not all have a result")
            if set(request.refused) != request.refusable:
                yield Finding("answered", f"{label}: refused {request.refused}, want {sorted(request.refusable)}")


def errors_are_honest(evidence: Evidence, _: Allowance) -> Iterator[Finding]:
    """A dependency that is away is 503 and never 500."""
    for request in evidence.client.requests:
        if any(attempt.answer == "500" for attempt in request.attempts):
            yield Finding("honest", f"request {request.number} ({request.path}) was answered 500")


def accepted_has_one_created(evidence: Evidence, _: Allowance) -> Iterator[Finding]:
    """I1."""
    created = Counter(fact.message_id for fact in evidence.log if fact.kind == "created")
    told = evidence.client.told()
    yield from _some("I1", "accepted, but not created in the log", (i for i in told if created[i] == 0))
    yield from _some("I1", "created more than once", (i for i, count in created.items() if count > 1))
    yield from _some("I1", "in the log without `created`", {f.message_id for f in evidence.log} - set(created))
    yield from _some("I1", "created, but not in the projection", set(created) - set(evidence.rows))
    yield from _some("I1", "in the projection, but not created", set(evidence.rows) - set(created))


def no_request_half_done(evidence: Evidence, _: Allowance) -> Iterator[Finding]:
    """A request answered with an error is in the log as a whole or not at all; nothing else is there untold."""
    of_subscription: dict[str, list[str]] = defaultdict(list)
    for row in evidence.rows.values():
        of_subscription[row.subscription_id].append(row.id)
    explained = set(evidence.client.told())
    for request in evidence.client.given_up():
        found = of_subscription.get(request.subscriptions[0], [])
        explained |= set(found)
        if len(found) not in (0, len(request.subscriptions)):
            text = f"request {request.number}: {len(found)} of {len(request.subscriptions)} items are in the log"
            yield Finding("half done", text, found[:5])
    yield from _some("half done", "in the log, but told to nobody", set(evidence.rows) - explained)


def every_message_is_final(evidence: Evidence, _: Allowance) -> Iterator[Finding]:
    """I2, by the projection; that it agrees with the log is I4. No fault of this suite explains a failure."""
    rows = evidence.rows.values()
    yield from _some("I2", "not final", (row.id for row in rows if row.status not in FINAL))
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.status == "failed":
            reasons[str(row.reason)].append(row.id)
    for reason, ids in reasons.items():
        yield from _some("I2", f"failed with `{reason}` without need", ids)
    if evidence.open_handoffs or evidence.due:
        text = f"{evidence.open_handoffs} hand-offs and {evidence.due} due rows are left of finished messages"
        yield Finding("I2", text)


def none_missing_at_sandbox(evidence: Evidence, _: Allowance) -> Iterator[Finding]:
    """What the log calls sent was taken by the provider."""
    taken = {call.message_id for call in evidence.calls if call.accepted}
    sent = {fact.message_id for fact in evidence.log if fact.kind == "sent"}
    yield from _some("sandbox", "`sent` in the log, never accepted at the sandbox", sent - taken)


def none_unknown_to_log(evidence: Evidence, allowance: Allowance) -> Iterator[Finding]:
    seen = {call.message_id for call in evidence.calls} - allowance.foreign
    yield from _some("sandbox", "at the sandbox, unknown to the log", seen - set(evidence.rows))
    taken = {call.message_id for call in evidence.calls if call.accepted} - allowance.foreign
    delivered = {row.id for row in evidence.rows.values() if row.status in ("successful", "received", "converted")}
    yield from _some("sandbox", "accepted at the sandbox, not so in the log", taken - delivered)


def calls_are_bounded(evidence: Evidence, allowance: Allowance) -> Iterator[Finding]:
    """I3: calls per message ≤ 1 + its attempts recorded as errored + the window over all messages."""
    excess = excess_calls(evidence)
    total = sum(excess.values())
    if total > allowance.repeats:
        text = f"{total} calls beyond 1 + recorded errors, {allowance.repeats} allowed"
        yield Finding("I3", text, sorted(excess, key=lambda i: -excess[i])[:5])
    repeats = sum(repeated(evidence).values())
    unknown = sum(fact.outcome == "unknown" for fact in evidence.log)
    if repeats > allowance.repeats + unknown:
        text = f"{repeats} calls after the accepted one, {allowance.repeats} + {unknown} unknown allowed"
        yield Finding("I3", text, sorted(repeated(evidence))[:5])


def repeats_show_once(evidence: Evidence, _: Allowance) -> Iterator[Finding]:
    """R7: a repeat replaces what is shown already."""
    collapse: dict[str, set[str | None]] = defaultdict(set)
    for call in evidence.calls:
        collapse[call.message_id].add(call.collapse)
    yield from _some("R7", "repeated under different collapse ids", (i for i, ids in collapse.items() if len(ids) > 1))
    yield from _some("R7", "without a collapse id", (i for i, ids in collapse.items() if ids & {None, ""}))


def projection_is_fold(evidence: Evidence, _: Allowance) -> Iterator[Finding]:
    """I4 and I5: the projection is what the log amounts to, by the pure fold and by the rebuild."""
    facts: dict[str, list[Fact]] = defaultdict(list)
    for fact in evidence.log:
        facts[fact.message_id].append(fact)
    unknown = {fact.kind for fact in evidence.log} - _KINDS
    if unknown:
        yield Finding("I4", f"event kinds unknown to libs.message: {sorted(unknown)}")
        return
    wrong = [row for row in evidence.rows.values() if _folded(facts[row.id]) != _projected(row)]
    for row in wrong[:3]:
        text = f"{row.id}: projection {_projected(row)}, fold {_folded(facts[row.id])}"
        yield Finding("I4", text, [row.id])
    if len(wrong) > 3:
        yield from _some("I4", "projection is not the fold of the log", (row.id for row in wrong))
    rebuild = evidence.rebuild
    if rebuild is not None and rebuild.checksum_before != rebuild.checksum_after:
        yield Finding("I4", f"the rebuilt projection differs: {rebuild}")
    if rebuild is not None and rebuild.messages != len(evidence.rows):
        yield Finding("I4", f"rebuilt {rebuild.messages} messages, the log has {len(evidence.rows)}")


def events_are_published(evidence: Evidence, allowance: Allowance) -> Iterator[Finding]:
    """R13: every fact is on EVENTS at least once, in the order of the log for each message."""
    logged: dict[Identity, Place] = {fact.identity: fact.place for fact in evidence.log}
    after = allowance.published_after
    wanted = {identity for identity, place in logged.items() if after is None or place > after}
    found = {each.identity: each.place for each in evidence.published}
    yield from _some("R13", "facts that are not on EVENTS", (i[0] for i in wanted - set(found)))
    yield from _some("R13", "on EVENTS, but not in the log", (i[0] for i in set(found) - set(logged)))
    moved = (i[0] for i, place in found.items() if i in logged and logged[i] != place)
    yield from _some("R13", "on EVENTS with another position than in the log", moved)
    yield from _some("R13", "on EVENTS out of order", _out_of_order(evidence))


RULES: tuple[Rule, ...] = (
    every_request_was_answered,
    errors_are_honest,
    accepted_has_one_created,
    no_request_half_done,
    every_message_is_final,
    none_missing_at_sandbox,
    none_unknown_to_log,
    calls_are_bounded,
    repeats_show_once,
    projection_is_fold,
    events_are_published,
)


def repeated(evidence: Evidence) -> dict[str, int]:
    """Message id to calls after the first one that was accepted, where there are any."""
    found: dict[str, int] = {}
    for message_id, calls in _by_message(evidence.calls).items():
        first = next((n for n, call in enumerate(calls) if call.accepted), len(calls))
        if len(calls) > first + 1:
            found[message_id] = len(calls) - first - 1
    return found


def excess_calls(evidence: Evidence) -> dict[str, int]:
    """Message id to calls beyond 1 + attempts that the log records as errored, where there are any."""
    errored = Counter(fact.message_id for fact in evidence.log if fact.kind == "errored")
    counts = Counter(call.message_id for call in evidence.calls)
    beyond = {i: count - 1 - errored[i] for i, count in counts.items()}
    return {i: count for i, count in beyond.items() if count > 0}


def _by_message(calls: Iterable[Call]) -> dict[str, list[Call]]:
    found: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        found[call.message_id].append(call)
    return found


def _out_of_order(evidence: Evidence) -> Iterator[str]:
    """By first appearances: a relay that died may publish a stretch again."""
    seen: set[Identity] = set()
    highest: dict[str, Place] = {}
    for each in evidence.published:
        if each.identity in seen:
            continue
        seen.add(each.identity)
        if each.place < highest.get(each.message_id, each.place):
            yield each.message_id
        highest[each.message_id] = max(each.place, highest.get(each.message_id, each.place))


def _folded(facts: list[Fact]) -> Projection:
    """Microseconds stand in for the fold's milliseconds: it only ever compares them."""
    return fold(
        Event(f.message_id, msgspec.convert(f.kind, Kind), f.attempt, f.key, f.occurred_at_us, f.reason) for f in facts
    )


def _projected(row: Row) -> Projection:
    return msgspec.convert(
        {
            "status": row.status,
            "attempt": row.attempt,
            "reason": row.reason,
            "sent_at_ms": row.sent_at_us,
            "received_at_ms": row.received_at_us,
            "converted_at_ms": row.converted_at_us,
            "failed_at_ms": row.failed_at_us,
            "cancelled_at_ms": row.cancelled_at_us,
        },
        Projection,
    )


def _some(rule: str, what: str, ids: Iterable[str]) -> Iterator[Finding]:
    found = sorted(set(ids))
    if found:
        yield Finding(rule, f"{len(found)} {what}", found[:5])
