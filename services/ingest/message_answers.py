"""What was answered to messages that were sent: as it is kept under an Idempotency-Key, and as it is told."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from libs import rpc
from libs.api.messages import ApiError, BatchSent, ItemResult, MessageSent, SentTo
from services.ingest.exchange import Answer
from services.ingest.idempotency import Settled
from services.ingest.recipients import Reachable
from services.ingest.render import rfc3339

OfPerson = tuple[str, str, str]
"""One of the messages to a person: its id, its subscription, that one's type."""
Verdict = Literal["pending", "valid"]
"""Accepted, or with `validate_only` only checked."""
DueTimes = dict[str, int]
"""By message, when it will be sent; what is sent at once is not there."""


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """The answer to one message."""

    message_id: str
    subscription_id: str
    of_person: list[OfPerson] | None = None
    due_at_ms: DueTimes = {}


class Results(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a batch: for each item the id of its message, its messages to a person, or the `error` object."""

    items: list[str | list[OfPerson] | dict[str, Any]]
    due_at_ms: DueTimes = {}


def due_times(messages: Sequence[rpc.NewMessage]) -> DueTimes:
    return {message.message_id: message.due_at_ms for message in messages if message.due_at_ms is not None}


def messages_of_person(messages: Sequence[rpc.NewMessage], reachable: Sequence[Reachable]) -> list[OfPerson]:
    pairs = zip(messages, reachable, strict=True)
    return [(message.message_id, message.subscription_id, each.recipient.type) for message, each in pairs]


def answer_to_one(settled: Settled[Sent], verdict: Verdict) -> Answer:
    sent, valid = settled.answer, verdict == "valid"
    data = MessageSent(
        status=verdict,
        subscription_id=sent.subscription_id,
        message_id=UNSET if valid else sent.message_id,
        created_at=UNSET if valid else rfc3339(settled.created_at_ms),
        scheduled_at=_due(sent.message_id, sent.due_at_ms),
        messages=UNSET if sent.of_person is None else _told(sent.of_person, sent.due_at_ms, verdict),
    )
    return Answer(200 if valid else 201, data, settled.headers)


def answer_to_batch(settled: Settled[Results], verdict: Verdict) -> Answer:
    results = settled.answer
    rendered = [_result(item, results.due_at_ms, verdict) for item in results.items]
    refused = sum(isinstance(item, dict) for item in results.items)
    return Answer(200, BatchSent(rendered, len(rendered) - refused, refused), settled.headers)


def _result(item: str | list[OfPerson] | dict[str, Any], due: Mapping[str, int], verdict: Verdict) -> ItemResult:
    if isinstance(item, dict):
        return ItemResult(error=ApiError(**item))
    of_person: list[SentTo] | UnsetType = UNSET
    if not isinstance(item, str):
        of_person = _told(item, due, verdict)
        item = item[0][0]
    message_id = None if verdict == "valid" else item
    return ItemResult(message_id=message_id, status=verdict, scheduled_at=_due(item, due), messages=of_person)


def _told(of_person: list[OfPerson], due: Mapping[str, int], verdict: Verdict) -> list[SentTo]:
    return [
        SentTo(
            subscription_id=subscription,
            type=kind,
            message_id=UNSET if verdict == "valid" else message,
            scheduled_at=_due(message, due),
        )
        for message, subscription, kind in of_person
    ]


def _due(message_id: str, due: Mapping[str, int]) -> str | UnsetType:
    at_ms = due.get(message_id)
    return UNSET if at_ms is None else rfc3339(at_ms)
