"""Messages changed after their acceptance: cancelled or given another time while they wait, sent again after they
failed."""

from libs import rpc
from libs.api.message_control import (
    MessageCancelled,
    MessageRescheduled,
    MessageResent,
    MessagesResent,
    RescheduleBody,
    ResendManyBody,
)
from libs.errors import InvalidRequest
from services.ingest.errors import Reason
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.message_filters import filtered
from services.ingest.render import rfc3339
from services.ingest.schedule import Due, check_time, due_of

RESEND_SECONDS = 10.0
"""For a thousand messages."""


async def cancel(gateway: Gateway, call: Call[None]) -> Answer:
    request = rpc.CancelMessage(call.caller.application_id, call.id(), call.caller.actor)
    done = await gateway.bus.call("lifecycle", "cancel", request, rpc.Cancelled)
    return Answer(200, MessageCancelled(call.id(), "cancelled", rfc3339(done.cancelled_at_ms)))


async def reschedule(gateway: Gateway, call: Call[RescheduleBody]) -> Answer:
    due = await _due(gateway, call)
    request = rpc.RescheduleMessage(call.caller.application_id, call.id(), call.caller.actor, due.at_ms, due.told)
    done = await gateway.bus.call("lifecycle", "reschedule", request, rpc.Rescheduled)
    return Answer(200, MessageRescheduled(call.id(), "pending", rfc3339(done.due_at_ms)))


async def _due(gateway: Gateway, call: Call[RescheduleBody]) -> Due:
    """Raises `InvalidRequest`, `ValidationFailed`, `ResourceNotFound`, `ServiceUnavailable`."""
    body, application_id = call.input, call.caller.application_id
    check_time(body, gateway.schedules.now_ms())
    recipient = None if body.send_at_local is None else await _recipient(gateway, application_id, call.id())
    due = due_of(body, recipient, await gateway.schedules.timing(application_id, [body]))
    if due is None:
        raise InvalidRequest(fields=dict.fromkeys(("scheduled_at", "send_at_local"), Reason("schedule")))
    return due


async def _recipient(gateway: Gateway, application_id: str, message_id: str) -> rpc.Recipient | None:
    """None: the subscription is gone. Raises `ResourceNotFound` for the message."""
    question = rpc.GetMessage(application_id, message_id)
    message = await gateway.bus.call("lifecycle", "get", question, rpc.MessageView)
    found = await gateway.recipients.one(application_id, message.subscription_id, message.lane)
    return None if found is None else found.recipient


async def resend(gateway: Gateway, call: Call[None]) -> Answer:
    request = rpc.ResendMessage(
        call.caller.application_id, call.id(), call.caller.actor, call.new_id or call.request_id
    )
    done = await gateway.bus.call("lifecycle", "resend", request, rpc.Resent)
    return Answer(200, MessageResent(call.id(), "pending", done.attempt))


async def resend_many(gateway: Gateway, call: Call[ResendManyBody]) -> Answer:
    wanted = await filtered(gateway, call.caller.application_id, call.input, limit=call.input.limit)
    if wanted is None:
        return Answer(200, MessagesResent(0, 0, None))
    request = rpc.ResendMany(wanted, call.caller.actor, call.new_id or call.request_id)
    done = await gateway.bus.call("lifecycle", "resend_many", request, rpc.ResentMany, timeout=RESEND_SECONDS)
    return Answer(200, MessagesResent(done.resent, done.skipped, done.next_before))


ROUTES = (
    Route(
        method="POST",
        path="/messages/{id}/cancel",
        summary="Cancel a message that waits",
        scopes=("send",),
        handler=cancel,
        answer=MessageCancelled,
        errors=("resource_not_found", "message_already_processed"),
    ),
    Route(
        method="POST",
        path="/messages/{id}/reschedule",
        summary="Give a message that waits for its time another time",
        scopes=("send",),
        handler=reschedule,
        body=RescheduleBody,
        answer=MessageRescheduled,
        errors=("resource_not_found", "message_already_processed"),
        example={"send_at_local": "09:00"},
    ),
    Route(
        method="POST",
        path="/messages/{id}/resend",
        summary="Send a message again that failed or was cancelled",
        scopes=("send",),
        handler=resend,
        answer=MessageResent,
        errors=("resource_not_found", "message_already_processed", "invalid_message_content"),
    ),
    Route(
        method="POST",
        path="/messages/resend",
        summary="Send again up to 1,000 messages that failed or were cancelled",
        scopes=("send",),
        handler=resend_many,
        body=ResendManyBody,
        answer=MessagesResent,
        example={"status": "failed", "channel": "apns", "limit": 100},
    ),
)
