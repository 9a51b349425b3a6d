"""Messages: send one, send many, with content of their own or from a template, to a subscription or to a person."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from libs import rpc, telemetry
from libs.api.messages import (
    MAX_BATCH,
    ApiError,
    BatchBody,
    BatchSent,
    ItemResult,
    MessageBody,
    MessageItem,
    MessageSent,
    SentTo,
    TemplateMessageBody,
)
from libs.envelope import Lane
from libs.errors import SignalError, ValidationFailed
from services.ingest.acceptance import check_item, new_message
from services.ingest.decode import Batch, decode_batch
from services.ingest.errors import Language, Reason, describe
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.idempotency import Settled, accept, earlier, guard_of
from services.ingest.recipients import Reachable
from services.ingest.render import rfc3339
from services.ingest.targets import Found, chosen, find, target
from services.ingest.templated import Renderings, rendered_for

OfPerson = tuple[str, str, str]
"""One of the messages to a person: its id, its subscription, that one's type."""
Draft = tuple[MessageItem, list[Reachable]]


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """The answer to one message, as it is kept under an Idempotency-Key."""

    message_id: str
    subscription_id: str
    of_person: list[OfPerson] | None = None


class Results(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a batch, likewise: for each item the id of its message, its messages to a person, or the `error`
    object."""

    items: list[str | list[OfPerson] | dict[str, Any]]


async def send(gateway: Gateway, call: Call[MessageBody]) -> Answer:
    return await _counting_refusals(gateway, call, call.input)


async def send_template(gateway: Gateway, call: Call[TemplateMessageBody]) -> Answer:
    return await _counting_refusals(gateway, call, msgspec.convert(call.input, MessageBody, from_attributes=True))


async def _counting_refusals(gateway: Gateway, call: Call[Any], body: MessageBody) -> Answer:
    try:
        return await _send(gateway, call, body)
    except SignalError as error:
        _count_refusal(error)
        raise


def _count_refusal(error: SignalError) -> None:
    telemetry.counter("messages_refused_total", code=error.code).inc()


async def _send(gateway: Gateway, call: Call[Any], body: MessageBody) -> Answer:
    check_item(body)
    guard = guard_of(call)
    if body.validate_only:
        guard = None
    before = await earlier(gateway, call, guard, Sent)
    if before is not None:
        return _sent(before)
    lane, application_id = body.priority or "normal", call.caller.application_id
    reachable = await target(gateway.recipients, application_id, body, lane)
    renderings = await gateway.renderer.one(application_id, body, reachable, lane)
    messages = _messages((body, reachable), lane, renderings)
    of_person = None if body.external_id is None else _of_person(messages, reachable)
    sent = Sent(messages[0].message_id, messages[0].subscription_id, of_person)
    if body.validate_only:
        to = UNSET if of_person is None else _told(of_person, "valid")
        return Answer(200, MessageSent(status="valid", subscription_id=sent.subscription_id, messages=to))
    return _sent(await accept(gateway, call, "single", messages, guard, sent))


def _messages(draft: Draft, lane: Lane, renderings: Renderings | None) -> list[rpc.NewMessage]:
    item, reachable = draft
    if renderings is None:
        return [new_message(item, each, lane) for each in reachable]
    return [new_message(item, each, lane, rendered_for(item, each.recipient, renderings)) for each in reachable]


def _of_person(messages: list[rpc.NewMessage], reachable: list[Reachable]) -> list[OfPerson]:
    pairs = zip(messages, reachable, strict=True)
    return [(message.message_id, message.subscription_id, each.recipient.type) for message, each in pairs]


def _told(of_person: list[OfPerson], status: Literal["pending", "valid"]) -> list[SentTo]:
    return [
        SentTo(subscription_id=subscription, type=kind, message_id=UNSET if status == "valid" else message)
        for message, subscription, kind in of_person
    ]


def _sent(settled: Settled[Sent]) -> Answer:
    sent = settled.answer
    data = MessageSent(
        status="pending",
        subscription_id=sent.subscription_id,
        message_id=sent.message_id,
        created_at=rfc3339(settled.created_at_ms),
        messages=UNSET if sent.of_person is None else _told(sent.of_person, "pending"),
    )
    return Answer(201, data, settled.headers)


async def send_batch(gateway: Gateway, call: Call[Batch]) -> Answer:
    batch = call.input
    guard = guard_of(call)
    if batch.validate_only:
        guard = None
    before = await earlier(gateway, call, guard, Results)
    if before is not None:
        return _results(before, "pending")
    application_id = call.caller.application_id
    drafts = _drafts(batch.items, await find(gateway.recipients, application_id, batch.items))
    good = [draft for draft in drafts if not isinstance(draft, SignalError)]
    renderings = iter(await gateway.renderer.many(application_id, good))
    messages, results = _sort(drafts, renderings, call.language)
    if batch.validate_only or not messages:
        # Nothing happened that a repetition could do twice: nothing is kept under the key.
        return _results(Settled(results, 0, {}), "valid")
    return _results(await accept(gateway, call, "batch", messages, guard, results), "pending")


def _drafts(items: Sequence[MessageItem | SignalError], found: Found) -> list[Draft | SignalError]:
    """Each item and whom it goes to, or why it cannot."""
    drafts: list[Draft | SignalError] = []
    room = MAX_BATCH
    for item in items:
        try:
            if isinstance(item, SignalError):
                raise item
            check_item(item)
            reachable = chosen(item, found)
            if len(reachable) > room:
                raise ValidationFailed(fields={"strategy": Reason("batch_full", MAX_BATCH)})
        except SignalError as error:
            drafts.append(error)
        else:
            room -= len(reachable)
            drafts.append((item, reachable))
    return drafts


def _sort(
    drafts: list[Draft | SignalError], renderings: Iterator[Renderings | None], language: Language
) -> tuple[list[rpc.NewMessage], Results]:
    messages: list[rpc.NewMessage] = []
    results: list[str | list[OfPerson] | dict[str, Any]] = []
    for draft in drafts:
        try:
            if isinstance(draft, SignalError):
                raise draft
            item, reachable = draft
            made = _messages(draft, item.priority or "bulk", next(renderings))
        except SignalError as error:
            _count_refusal(error)
            results.append(describe(error, language))
        else:
            messages += made
            results.append(made[0].message_id if item.external_id is None else _of_person(made, reachable))
    return messages, Results(results)


def _results(settled: Settled[Results], status: Literal["pending", "valid"]) -> Answer:
    items = settled.answer.items
    rendered = [_result(item, status) for item in items]
    refused = sum(isinstance(item, dict) for item in items)
    return Answer(200, BatchSent(rendered, len(items) - refused, refused), settled.headers)


def _result(item: str | list[OfPerson] | dict[str, Any], status: Literal["pending", "valid"]) -> ItemResult:
    if isinstance(item, dict):
        return ItemResult(error=ApiError(**item))
    of_person: list[SentTo] | UnsetType = UNSET
    if not isinstance(item, str):
        of_person = _told(item, status)
        item = item[0][0]
    return ItemResult(message_id=None if status == "valid" else item, status=status, messages=of_person)


TO_SOMEBODY = (
    "resource_not_found",
    "subscription_disabled",
    "invalid_subscription_type",
    "invalid_message_content",
    "message_too_large",
)
FROM_TEMPLATE = (
    "template_not_found",
    "template_inactive",
    "missing_required_variable",
    "invalid_template_variables",
)

ROUTES = (
    Route(
        method="POST",
        path="/messages",
        summary="Send a message",
        scopes=("send",),
        handler=send,
        body=MessageBody,
        answer=MessageSent,
        status=201,
        other_statuses=(200,),
        errors=(*TO_SOMEBODY, *FROM_TEMPLATE),
        repeat="own",
        example={"subscription_id": "0199a1b2-0000-7000-8000-000000000002", "title": "Hello", "body": "It works."},
    ),
    Route(
        method="POST",
        path="/messages/template",
        summary="Send a message made from a template",
        scopes=("send",),
        handler=send_template,
        body=TemplateMessageBody,
        answer=MessageSent,
        status=201,
        other_statuses=(200,),
        errors=(*TO_SOMEBODY, *FROM_TEMPLATE),
        repeat="own",
        example={
            "subscription_id": "0199a1b2-0000-7000-8000-000000000002",
            "template_id": "order_confirmation",
            "variables": {"user_name": "Gildong"},
        },
    ),
    Route(
        method="POST",
        path="/messages/batch",
        summary="Send up to 1,000 messages, each accepted or refused on its own",
        scopes=("send",),
        handler=send_batch,
        body=BatchBody,
        read=decode_batch,
        answer=BatchSent,
        size="batch",
        repeat="own",
        example={
            "messages": [{"subscription_id": "0199a1b2-0000-7000-8000-000000000002", "title": "Hello"}],
        },
    ),
)
