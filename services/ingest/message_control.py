"""Messages changed after their acceptance: cancelled while they wait, sent again after they failed."""

from libs import rpc
from libs.api.messages import MessageCancelled, MessageResent
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.render import rfc3339


async def cancel(gateway: Gateway, call: Call[None]) -> Answer:
    request = rpc.CancelMessage(call.caller.application_id, call.id(), call.caller.actor)
    done = await gateway.bus.call("lifecycle", "cancel", request, rpc.Cancelled)
    return Answer(200, MessageCancelled(call.id(), "cancelled", rfc3339(done.cancelled_at_ms)))


async def resend(gateway: Gateway, call: Call[None]) -> Answer:
    request = rpc.ResendMessage(
        call.caller.application_id, call.id(), call.caller.actor, call.new_id or call.request_id
    )
    done = await gateway.bus.call("lifecycle", "resend", request, rpc.Resent)
    return Answer(200, MessageResent(call.id(), "pending", done.attempt))


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
        path="/messages/{id}/resend",
        summary="Send a message again that failed or was cancelled",
        scopes=("send",),
        handler=resend,
        answer=MessageResent,
        errors=("resource_not_found", "message_already_processed", "invalid_message_content"),
    ),
)
