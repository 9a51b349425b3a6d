"""Messages: send one, send many, look one up, ask why it went as it did."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from libs import rpc, telemetry
from libs.api.messages import (
    ApiError,
    BatchBody,
    BatchSent,
    Event,
    EventBrief,
    ItemResult,
    Message,
    MessageBody,
    MessageItem,
    MessageSent,
    Timeline,
)
from libs.envelope import Content
from libs.errors import SignalError
from services.ingest.acceptance import check_item, new_message
from services.ingest.decode import Batch, decode_batch
from services.ingest.errors import Language, describe
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.idempotency import Settled, accept, earlier, guard_of
from services.ingest.recipients import Reachable
from services.ingest.render import rfc3339, rfc3339_or_none
from services.ingest.why import explain_event, explain_message

_decode_content = msgspec.msgpack.Decoder(Content).decode


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """The answer to one message, as it is kept under an Idempotency-Key."""

    message_id: str
    subscription_id: str


class Results(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a batch, likewise: for each item the id of its message, or the `error` object."""

    items: list[str | dict[str, Any]]


async def send(gateway: Gateway, call: Call[MessageBody]) -> Answer:
    try:
        return await _send(gateway, call)
    except SignalError as error:
        _count_refusal(error)
        raise


def _count_refusal(error: SignalError) -> None:
    telemetry.counter("messages_refused_total", code=error.code).inc()


async def _send(gateway: Gateway, call: Call[MessageBody]) -> Answer:
    body = call.input
    check_item(body)
    guard = None if body.validate_only else guard_of(call)
    before = await earlier(gateway, call, guard, Sent)
    if before is not None:
        return _sent(before)
    lane = body.priority or "normal"
    reachable = await gateway.recipients.one(call.caller.application_id, body.subscription_id.lower(), lane)
    message = new_message(body, reachable, lane)
    sent = Sent(message.message_id, message.subscription_id)
    if body.validate_only:
        return Answer(200, MessageSent(status="valid", subscription_id=sent.subscription_id))
    return _sent(await accept(gateway, call, "single", [message], guard, sent))


def _sent(settled: Settled[Sent]) -> Answer:
    sent = settled.answer
    data = MessageSent(
        status="pending",
        subscription_id=sent.subscription_id,
        message_id=sent.message_id,
        created_at=rfc3339(settled.created_at_ms),
    )
    return Answer(201, data, settled.headers)


async def send_batch(gateway: Gateway, call: Call[Batch]) -> Answer:
    batch = call.input
    guard = None if batch.validate_only else guard_of(call)
    before = await earlier(gateway, call, guard, Results)
    if before is not None:
        return _results(before, "pending")
    ids = [item.subscription_id.lower() for item in batch.items if isinstance(item, MessageItem)]
    reachable = await gateway.recipients.many(call.caller.application_id, ids) if ids else {}
    messages, results = _sort(batch.items, reachable, call.language)
    if batch.validate_only or not messages:
        # Nothing happened that a repetition could do twice: nothing is kept under the key.
        return _results(Settled(results, 0, {}), "valid")
    return _results(await accept(gateway, call, "batch", messages, guard, results), "pending")


def _sort(
    items: Sequence[MessageItem | SignalError], reachable: dict[str, Reachable], language: Language
) -> tuple[list[rpc.NewMessage], Results]:
    messages: list[rpc.NewMessage] = []
    results: list[str | dict[str, Any]] = []
    for item in items:
        try:
            if isinstance(item, SignalError):
                raise item
            check_item(item)
            message = new_message(item, reachable.get(item.subscription_id.lower()), item.priority or "bulk")
        except SignalError as error:
            _count_refusal(error)
            results.append(describe(error, language))
        else:
            messages.append(message)
            results.append(message.message_id)
    return messages, Results(results)


def _results(settled: Settled[Results], status: Literal["pending", "valid"]) -> Answer:
    items = settled.answer.items
    rendered = [_result(item, status) for item in items]
    refused = sum(not isinstance(item, str) for item in items)
    return Answer(200, BatchSent(rendered, len(items) - refused, refused), settled.headers)


def _result(item: str | dict[str, Any], status: Literal["pending", "valid"]) -> ItemResult:
    if not isinstance(item, str):
        return ItemResult(error=ApiError(**item))
    return ItemResult(message_id=None if status == "valid" else item, status=status)


async def get(gateway: Gateway, call: Call[None]) -> Answer:
    view = await _view(gateway, call)
    content = Content() if view.content is None else _decode_content(view.content)
    message = Message(
        id=view.id,
        subscription_id=view.subscription_id,
        title=content.title,
        body=content.body,
        data=None if view.content is None else content.data,
        content_erased=True if view.content is None else UNSET,
        status=view.status,
        created_at=rfc3339(view.created_at_ms),
        sent_at=rfc3339_or_none(view.sent_at_ms),
        received_at=rfc3339_or_none(view.received_at_ms),
        converted_at=rfc3339_or_none(view.converted_at_ms),
        failed_at=rfc3339_or_none(view.failed_at_ms),
        cancelled_at=rfc3339_or_none(view.cancelled_at_ms),
        reason=view.reason,
        channel=view.channel,
        priority=view.lane,
        category=view.category,
        attempt=view.attempt,
        events=[EventBrief(event.kind, rfc3339(event.occurred_at_ms)) for event in view.events],
    )
    return Answer(200, message)


async def events(gateway: Gateway, call: Call[None]) -> Answer:
    view = await _view(gateway, call)
    timeline = Timeline(
        id=view.id,
        status=view.status,
        why=explain_message(view, call.language),
        events=[_event(event, view, call.language) for event in view.events],
        next_attempt_at=UNSET if view.next_attempt_at_ms is None else rfc3339(view.next_attempt_at_ms),
    )
    return Answer(200, timeline)


def _event(event: rpc.EventView, view: rpc.MessageView, language: Language) -> Event:
    return Event(
        event_type=event.kind,
        occurred_at=rfc3339(event.occurred_at_ms),
        attempt=event.attempt,
        reason=event.reason,
        data=event.data,
        why=explain_event(event, view, language),
    )


async def _view(gateway: Gateway, call: Call[None]) -> rpc.MessageView:
    question = rpc.GetMessage(call.caller.application_id, call.id())
    return await gateway.bus.call("lifecycle", "get", question, rpc.MessageView)


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
        errors=(
            "resource_not_found",
            "subscription_disabled",
            "invalid_subscription_type",
            "invalid_message_content",
            "message_too_large",
        ),
        repeat="own",
        example={"subscription_id": "0199a1b2-0000-7000-8000-000000000002", "title": "Hello", "body": "It works."},
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
    Route(
        method="GET",
        path="/messages/{id}",
        summary="Look a message up",
        scopes=("read",),
        handler=get,
        answer=Message,
        errors=("resource_not_found",),
    ),
    Route(
        method="GET",
        path="/messages/{id}/events",
        summary="Why a message went as it did",
        scopes=("read",),
        handler=events,
        answer=Timeline,
        errors=("resource_not_found",),
    ),
)
