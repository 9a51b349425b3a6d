"""Messages: send one, send many, look one up, ask why it went as it did."""

from collections.abc import Sequence
from typing import Any

import msgspec

from libs import rpc, telemetry
from libs.envelope import Content
from libs.errors import SignalError
from services.ingest.acceptance import check_item, new_message
from services.ingest.decode import Decoder, decode_batch
from services.ingest.errors import Language, describe
from services.ingest.exchange import Call, Gateway
from services.ingest.idempotency import Settled, accept, earlier, guard_of
from services.ingest.models import MessageBody, MessageItem
from services.ingest.recipients import Reachable
from services.ingest.render import Answer, rfc3339, rfc3339_or_none
from services.ingest.why import explain_event, explain_message

VALID = "valid"
"""Status of what was only checked (`validate_only`)."""

_message = Decoder(MessageBody)
_decode_content = msgspec.msgpack.Decoder(Content).decode


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """The answer to one message, as it is kept under an Idempotency-Key."""

    message_id: str
    subscription_id: str


class Results(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a batch, likewise: for each item the id of its message, or the `error` object."""

    items: list[str | dict[str, Any]]


async def send(gateway: Gateway, call: Call) -> Answer:
    try:
        return await _send(gateway, call)
    except SignalError as error:
        _count_refusal(error)
        raise


def _count_refusal(error: SignalError) -> None:
    telemetry.counter("messages_refused_total", code=error.code).inc()


async def _send(gateway: Gateway, call: Call) -> Answer:
    body = _message.decode(call.body)
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
        return Answer(200, {"status": VALID, "subscription_id": sent.subscription_id})
    return _sent(await accept(gateway, call, "single", [message], guard, sent))


def _sent(settled: Settled[Sent]) -> Answer:
    sent = settled.answer
    data = {
        "message_id": sent.message_id,
        "status": "pending",
        "created_at": rfc3339(settled.created_at_ms),
        "subscription_id": sent.subscription_id,
    }
    return Answer(201, data, settled.headers)


async def send_batch(gateway: Gateway, call: Call) -> Answer:
    batch = decode_batch(call.body)
    guard = None if batch.validate_only else guard_of(call)
    before = await earlier(gateway, call, guard, Results)
    if before is not None:
        return _results(before, "pending")
    ids = [item.subscription_id.lower() for item in batch.items if isinstance(item, MessageItem)]
    reachable = await gateway.recipients.many(call.caller.application_id, ids) if ids else {}
    messages, results = _sort(batch.items, reachable, call.language)
    if batch.validate_only or not messages:
        # Nothing happened that a repetition could do twice: nothing is kept under the key.
        return _results(Settled(results, 0, {}), VALID)
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


def _results(settled: Settled[Results], status: str) -> Answer:
    items = settled.answer.items
    rendered = [_result(item, status) for item in items]
    refused = sum(not isinstance(item, str) for item in items)
    data = {"results": rendered, "accepted": len(items) - refused, "refused": refused}
    return Answer(200, data, settled.headers)


def _result(item: str | dict[str, Any], status: str) -> dict[str, Any]:
    if not isinstance(item, str):
        return {"error": item}
    return {"message_id": None if status == VALID else item, "status": status}


async def get(gateway: Gateway, call: Call) -> Answer:
    view = await _view(gateway, call)
    events = [{"event_type": event.kind, "occurred_at": rfc3339(event.occurred_at_ms)} for event in view.events]
    return Answer(200, {**_content(view), **_fate(view), "events": events})


def _content(view: rpc.MessageView) -> dict[str, Any]:
    known = {"id": view.id, "subscription_id": view.subscription_id}
    if view.content is None:
        return {**known, "title": None, "body": None, "data": None, "content_erased": True}
    content = _decode_content(view.content)
    return {**known, "title": content.title, "body": content.body, "data": content.data}


def _fate(view: rpc.MessageView) -> dict[str, Any]:
    return {
        "status": view.status,
        "created_at": rfc3339(view.created_at_ms),
        "sent_at": rfc3339_or_none(view.sent_at_ms),
        "received_at": rfc3339_or_none(view.received_at_ms),
        "converted_at": rfc3339_or_none(view.converted_at_ms),
        "failed_at": rfc3339_or_none(view.failed_at_ms),
        "cancelled_at": rfc3339_or_none(view.cancelled_at_ms),
        "reason": view.reason,
        "channel": view.channel,
        "priority": view.lane,
        "category": view.category,
        "attempt": view.attempt,
    }


async def events(gateway: Gateway, call: Call) -> Answer:
    view = await _view(gateway, call)
    data: dict[str, Any] = {
        "id": view.id,
        "status": view.status,
        "why": explain_message(view, call.language),
        "events": [_event(event, view, call.language) for event in view.events],
    }
    if view.next_attempt_at_ms is not None:
        data["next_attempt_at"] = rfc3339(view.next_attempt_at_ms)
    return Answer(200, data)


def _event(event: rpc.EventView, view: rpc.MessageView, language: Language) -> dict[str, Any]:
    return {
        "event_type": event.kind,
        "occurred_at": rfc3339(event.occurred_at_ms),
        "attempt": event.attempt,
        "reason": event.reason,
        "data": event.data,
        "why": explain_event(event, view, language),
    }


async def _view(gateway: Gateway, call: Call) -> rpc.MessageView:
    question = rpc.GetMessage(call.caller.application_id, call.id())
    return await gateway.bus.call("lifecycle", "get", question, rpc.MessageView)
