"""Messages: send one, send many, with content of their own or from a template, to a subscription or to a person."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from libs import rpc, telemetry
from libs.api.messages import (
    MAX_BATCH,
    BatchBody,
    BatchSent,
    MessageBody,
    MessageItem,
    MessageSent,
    TemplateMessageBody,
)
from libs.envelope import Lane
from libs.errors import SignalError, ValidationFailed
from services.ingest.acceptance import check_item, new_message
from services.ingest.decode import Batch, decode_batch
from services.ingest.errors import Language, Reason, describe
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.idempotency import Settled, accept, earlier, guard_of
from services.ingest.message_answers import (
    OfPerson,
    Results,
    Sent,
    answer_to_batch,
    answer_to_one,
    due_times,
    messages_of_person,
)
from services.ingest.recipients import Reachable
from services.ingest.schedule import Timing, check_time, due_of
from services.ingest.targets import Found, chosen, find, target
from services.ingest.templated import Renderings, rendered_for

Draft = tuple[MessageItem, list[Reachable]]


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
    check_time(body, gateway.schedules.now_ms())
    guard = guard_of(call)
    if body.validate_only:
        guard = None
    before = await earlier(gateway, call, guard, Sent)
    if before is not None:
        return answer_to_one(before, "pending")
    lane, application_id = body.priority or "normal", call.caller.application_id
    reachable = await target(gateway.recipients, application_id, body, lane)
    renderings = await gateway.renderer.one(application_id, body, reachable, lane)
    timing = await gateway.schedules.timing(application_id, [body])
    messages = _messages((body, reachable), lane, renderings, timing)
    of_person = None if body.external_id is None else messages_of_person(messages, reachable)
    sent = Sent(messages[0].message_id, messages[0].subscription_id, of_person, due_times(messages))
    if body.validate_only:
        return answer_to_one(Settled(sent, 0, {}), "valid")
    return answer_to_one(await accept(gateway, call, "single", messages, guard, sent), "pending")


def _messages(draft: Draft, lane: Lane, renderings: Renderings | None, timing: Timing) -> list[rpc.NewMessage]:
    item, reachable = draft
    made = []
    for each in reachable:
        rendered = None if renderings is None else rendered_for(item, each.recipient, renderings)
        due = due_of(item, each.recipient, timing)
        made.append(new_message(item, each, lane, rendered, due if due and due.at_ms > timing.now_ms else None))
    return made


async def send_batch(gateway: Gateway, call: Call[Batch]) -> Answer:
    batch = call.input
    guard = guard_of(call)
    if batch.validate_only:
        guard = None
    before = await earlier(gateway, call, guard, Results)
    if before is not None:
        return answer_to_batch(before, "pending")
    application_id = call.caller.application_id
    timing = await gateway.schedules.timing(application_id, batch.items)
    drafts = _drafts(batch.items, await find(gateway.recipients, application_id, batch.items), timing)
    good = [draft for draft in drafts if not isinstance(draft, SignalError)]
    renderings = iter(await gateway.renderer.many(application_id, good))
    messages, results = _sort(drafts, renderings, timing, call.language)
    if batch.validate_only or not messages:
        # Nothing happened that a repetition could do twice: nothing is kept under the key.
        return answer_to_batch(Settled(results, 0, {}), "valid")
    return answer_to_batch(await accept(gateway, call, "batch", messages, guard, results), "pending")


def _drafts(items: Sequence[MessageItem | SignalError], found: Found, timing: Timing) -> list[Draft | SignalError]:
    """Each item and whom it goes to, or why it cannot."""
    drafts: list[Draft | SignalError] = []
    room = MAX_BATCH
    for item in items:
        try:
            if isinstance(item, SignalError):
                raise item
            check_item(item)
            check_time(item, timing.now_ms)
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
    drafts: list[Draft | SignalError], renderings: Iterator[Renderings | None], timing: Timing, language: Language
) -> tuple[list[rpc.NewMessage], Results]:
    messages: list[rpc.NewMessage] = []
    results: list[str | list[OfPerson] | dict[str, Any]] = []
    for draft in drafts:
        try:
            if isinstance(draft, SignalError):
                raise draft
            item, reachable = draft
            made = _messages(draft, item.priority or "bulk", next(renderings), timing)
        except SignalError as error:
            _count_refusal(error)
            results.append(describe(error, language))
        else:
            messages += made
            results.append(made[0].message_id if item.external_id is None else messages_of_person(made, reachable))
    return messages, Results(results, due_times(messages))


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
