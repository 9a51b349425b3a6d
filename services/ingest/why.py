"""The log in plain words: a sentence for each event, in English and Korean, so that a timeline answers "why".

A sentence is looked up by kind and reason, or by kind; clauses follow for what the event's data tells.
"""

from collections.abc import Iterator

from libs.message import FAILING
from libs.retry import TABLE
from libs.rpc import EventView, MessageView
from libs.waits import TURN, Hold, hold_of
from services.ingest.errors import Language
from services.ingest.why_sentences import (
    ACTION,
    ACTIVE,
    AGAIN,
    AGREED,
    ASKED,
    ASKED_BY_RULE,
    AT_LOCAL,
    ATTEMPT,
    ATTEMPT_UNLIMITED,
    BEYOND,
    COUNTED,
    DEADLINE,
    DISABLED,
    ENDED,
    EXHAUSTED,
    HANDLED_FROM,
    IN_HOURS,
    IN_TURN,
    KEPT,
    LAST,
    LOCALIZED,
    NEXT_TRY,
    NO_CREDENTIAL,
    NOT_BEFORE,
    OLDEST,
    OURS,
    PROBED,
    RATE,
    RESCHEDULED,
    REVISION,
    RULES,
    SENT_FROM,
    SENTENCES,
    SLOWED,
    SLOWED_FROM,
    STILL,
    SWEPT,
    TEMPLATED,
    TRIED_AGAIN,
    UNKNOWN,
    WAITED,
    ZONES,
    Sentence,
)
from services.ingest.why_values import attempts, failure, revision, say, told_by

DECISIVE: dict[str, frozenset[str]] = {
    "successful": frozenset({"sent"}),
    "errored": frozenset({"errored"}),
    "failed": FAILING,
    "received": frozenset({"received"}),
    "converted": frozenset({"converted"}),
    "cancelled": frozenset({"cancelled"}),
}
"""Which events give a message its status; any other status comes from the latest event."""


def explain_event(event: EventView, message: MessageView, language: Language) -> str:
    """One sentence for one event of `message`."""
    told = told_by(event, message, language)
    text = say(_sentence(event), told, language)
    clauses = [say(clause, told, language) for clause in _clauses(event, message)]
    return f"{text}: {'; '.join(clauses)}." if clauses else f"{text}."


def explain_message(message: MessageView, language: Language) -> str:
    """Why the message is where it is: what it waits for, else the latest event that put it there, and whether anything
    follows."""
    waiting = _waiting(message)
    if waiting is not None:
        return explain_event(waiting, message, language)
    if not message.events:
        return ""
    kinds = DECISIVE.get(message.status, frozenset())
    decisive = [event for event in message.events if event.kind in kinds] or message.events
    latest = max(decisive, key=lambda event: (event.attempt, event.occurred_at_ms))
    text = explain_event(latest, message, language)
    if message.next_attempt_reason == TURN:
        return f"{text} {say(IN_TURN, {}, language)}"
    return text if message.next_attempt_at_ms is None else f"{text} {say(AGAIN, {}, language)}"


def scheduled_ms(message: MessageView) -> int | None:
    """When it is to be sent, as it was set last, in Unix milliseconds. None: it was sent at once."""
    scheduled = [event for event in message.events if event.kind == "scheduled"]
    return max(scheduled, key=revision).data.get("due_at_ms") if scheduled else None


def _waiting(message: MessageView) -> EventView | None:
    """The latest event that made it wait; None where it waits for no more than its next attempt."""
    hold = hold_of(message.next_attempt_reason)
    held = [event for event in message.events if hold is not None and _made_wait(event) == hold]
    return max(held, key=lambda event: (event.attempt, event.occurred_at_ms, revision(event)), default=None)


def _made_wait(event: EventView) -> Hold | None:
    if event.kind == "scheduled":
        return "scheduled"
    return hold_of(event.reason) if event.kind == "held" else None


def _sentence(event: EventView) -> Sentence:
    if event.kind == "errored" and event.data.get("outcome") == "unknown":
        return UNKNOWN
    if event.kind == "failed" and event.key == "exhausted":
        return EXHAUSTED
    if event.kind == "scheduled" and revision(event) > 1:
        return RESCHEDULED
    if event.kind == "held" and event.reason == "breaker" and event.data.get("retry_class") == "credentials":
        return NO_CREDENTIAL
    return OURS.get((event.kind, event.reason or ""), SENTENCES.get(event.kind, Sentence(event.kind, event.kind)))


def _clauses(event: EventView, message: MessageView) -> Iterator[Sentence]:
    """What the event's data adds to its sentence."""
    match event.kind:
        case "created":
            yield from _of_acceptance(event, message)
        case "scheduled":
            yield from _of_schedule(event)
        case "held":
            yield from _of_rule(event)
        case "routed" | "retried":
            yield from _of_wait(event)
        case "errored" | "failed":
            yield from _of_failure(event, message)
        case "expired":
            yield from _of_expiry(event)
        case "converted" if event.data.get("action"):
            yield ACTION
    if event.data.get("sent_from") is not None and event.reason != "sender_lost":
        yield SENT_FROM if event.kind == "sent" else HANDLED_FROM


def _of_acceptance(event: EventView, message: MessageView) -> Iterator[Sentence]:
    data = event.data
    if "subscription_status" in data:
        yield ACTIVE
    if message.category == "ad" and data.get("ad_consent"):
        yield AGREED
    if data.get("template_version") is not None:
        yield LOCALIZED if data.get("template_locale") else TEMPLATED


def _of_schedule(event: EventView) -> Iterator[Sentence]:
    data = event.data
    if data.get("send_at_local") is not None:
        yield AT_LOCAL
        if data.get("scheduled_at") is not None:
            yield NOT_BEFORE
    yield from _of_zone(event)
    if revision(event) > 1:
        yield REVISION


def _of_rule(event: EventView) -> Iterator[Sentence]:
    """By which the message may not be sent now."""
    data = event.data
    if data.get("rule") in RULES:
        yield RULES[data["rule"]]
    yield from _of_zone(event)
    if data.get("per") is not None and data.get("category") is not None:
        yield COUNTED
    if data.get("probe_at_ms") is not None:
        yield PROBED
    yield from _of_rate(event)
    if data.get("oldest_ms") is not None:
        yield OLDEST


def _of_rate(event: EventView) -> Iterator[Sentence]:
    data = event.data
    if data.get("rate") is not None:
        yield RATE
    if "knob" in data:
        yield SLOWED if data["knob"] is None else SLOWED_FROM


def _of_zone(event: EventView) -> Iterator[Sentence]:
    if event.data.get("timezone_from") in ZONES:
        yield ZONES[event.data["timezone_from"]]


def _of_wait(event: EventView) -> Iterator[Sentence]:
    if failure(event) in TABLE:
        yield TRIED_AGAIN
    hold = _waited_for(event)
    if hold is None:
        return
    if event.kind == "retried":
        yield ENDED[hold]
    waited_ms = event.data.get("waited_ms")
    if isinstance(waited_ms, int) and waited_ms >= 1000:
        yield WAITED


def _waited_for(event: EventView) -> Hold | None:
    return hold_of(str(event.data.get("waited_for", "")))


def _of_failure(event: EventView, message: MessageView) -> Iterator[Sentence]:
    data = event.data
    if event.kind == "failed":
        yield from _of_rule(event)
        if "disable" in data:
            yield DISABLED
        if data.get("address") == "kept":
            yield KEPT
        if event.reason == "receipt_timeout" and data.get("hours") is not None:
            yield IN_HOURS
        yield from _of_hold(event)
    if data.get("retry_class") in TABLE:
        yield ATTEMPT if attempts(event, message) else ATTEMPT_UNLIMITED
    yield from _of_request(event)
    if data.get("retry_at_ms") is not None:
        yield NEXT_TRY


def _of_request(event: EventView) -> Iterator[Sentence]:
    """How long the provider wants to be left alone."""
    if event.data.get("retry_after") is not None:
        yield ASKED_BY_RULE if event.data.get("retry_after_from") == "rule" else ASKED


def _of_expiry(event: EventView) -> Iterator[Sentence]:
    data = event.data
    if data.get("deadline_ms") is not None:
        yield DEADLINE if data.get("last_reason") is None else BEYOND
    yield from _of_request(event)
    yield from _of_hold(event)
    if data.get("last_reason") is not None:
        yield LAST
    if data.get("last_status") is not None:
        yield SWEPT


def _of_hold(event: EventView) -> Iterator[Sentence]:
    """What it waited for when it ended."""
    hold = _waited_for(event)
    if hold is not None:
        yield STILL[hold]
