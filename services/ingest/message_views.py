"""Messages looked at: one, why it went as it did, and lists of them."""

import msgspec
from msgspec import UNSET

from libs import rpc
from libs.api.messages import Event, EventBrief, Message, MessageList, MessageListed, MessagesQuery, Timeline
from libs.envelope import Content
from libs.waits import hold_of
from services.ingest.errors import Language
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.message_filters import filtered
from services.ingest.render import pagination, rfc3339, rfc3339_or_none
from services.ingest.why import explain_event, explain_message, scheduled_ms

_decode_content = msgspec.msgpack.Decoder(Content).decode


async def list_messages(gateway: Gateway, call: Call[MessagesQuery]) -> Answer:
    page = await _page(gateway, call)
    query = call.input
    found = pagination(query, page.total, page.total_is_estimate, page.next_before)
    return Answer(200, MessageList([_listed(message) for message in page.messages], found))


async def _page(gateway: Gateway, call: Call[MessagesQuery]) -> rpc.MessagePage:
    query = call.input
    offset = 0 if query.cursor is not None else (query.page - 1) * query.per_page
    question = await filtered(gateway, call.caller.application_id, query, limit=query.per_page, offset=offset)
    if question is None:
        return rpc.MessagePage([], 0)
    return await gateway.bus.call("lifecycle", "list", question, rpc.MessagePage)


def _listed(message: rpc.MessageSummary) -> MessageListed:
    due_at = UNSET if message.next_attempt_at_ms is None else rfc3339(message.next_attempt_at_ms)
    return MessageListed(
        id=message.id,
        subscription_id=message.subscription_id,
        user_id=message.user_id,
        status=message.status,
        channel=message.channel,
        priority=message.lane,
        category=message.category,
        attempt=message.attempt,
        created_at=rfc3339(message.created_at_ms),
        sent_at=rfc3339_or_none(message.sent_at_ms),
        received_at=rfc3339_or_none(message.received_at_ms),
        converted_at=rfc3339_or_none(message.converted_at_ms),
        failed_at=rfc3339_or_none(message.failed_at_ms),
        cancelled_at=rfc3339_or_none(message.cancelled_at_ms),
        reason=message.reason,
        template_id=message.template_id,
        template_version=message.template_version,
        scheduled_at=due_at if hold_of(message.next_attempt_reason) == "scheduled" else UNSET,
        next_attempt_at=due_at,
    )


async def get(gateway: Gateway, call: Call[None]) -> Answer:
    return Answer(200, rendered(await _view(gateway, call)))


def rendered(view: rpc.MessageView) -> Message:
    content = Content() if view.content is None else _decode_content(view.content)
    return Message(
        id=view.id,
        subscription_id=view.subscription_id,
        title=content.title,
        body=content.body,
        data=None if view.content is None else content.data,
        content_erased=True if view.content is None else UNSET,
        status=view.status,
        created_at=rfc3339(view.created_at_ms),
        scheduled_at=UNSET if (scheduled_at := scheduled_ms(view)) is None else rfc3339(scheduled_at),
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
        user_id=view.user_id,
        template_id=view.template_id,
        template_version=view.template_version,
        events=[EventBrief(event.kind, rfc3339(event.occurred_at_ms)) for event in view.events],
    )


async def events(gateway: Gateway, call: Call[None]) -> Answer:
    view = await _view(gateway, call)
    timeline = Timeline(
        id=view.id,
        status=view.status,
        why=explain_message(view, call.language),
        events=[rendered_event(event, view, call.language) for event in view.events],
        next_attempt_at=UNSET if view.next_attempt_at_ms is None else rfc3339(view.next_attempt_at_ms),
    )
    return Answer(200, timeline)


def rendered_event(event: rpc.EventView, view: rpc.MessageView, language: Language) -> Event:
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
        method="GET",
        path="/messages",
        summary="List messages, newest first",
        scopes=("read",),
        handler=list_messages,
        query=MessagesQuery,
        answer=MessageList,
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
