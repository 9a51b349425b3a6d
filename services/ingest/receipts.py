"""Receipts: an app reports that a message arrived, or that its user acted on it. Repeating one changes nothing."""

from typing import Any, Literal

import msgspec

from libs import rpc
from libs.api.messages import ConversionReported, ConvertBody, StatusBody, StatusReported
from libs.errors import ResourceNotFound
from services.ingest.decode import MAX_DEPTH, refuse, too_deep, unstorable
from services.ingest.errors import Reason
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.render import rfc3339_or_none

MAX_DATA = 4096
"""Bytes of JSON that an app may attach to a conversion."""


async def status(gateway: Gateway, call: Call[StatusBody]) -> Answer:
    reply = await _report(gateway, call, call.input.status)
    return Answer(200, StatusReported(call.id(), reply.status, rfc3339_or_none(reply.received_at_ms)))


async def convert(gateway: Gateway, call: Call[ConvertBody]) -> Answer:
    data = call.input.data or {}
    _check(data)
    reply = await _report(gateway, call, "converted", call.input.action, data)
    return Answer(200, ConversionReported(call.id(), reply.status, rfc3339_or_none(reply.converted_at_ms)))


def _check(data: dict[str, Any]) -> None:
    """Raises `ValidationFailed`."""
    if too_deep(data):
        refuse({"data": Reason("depth", MAX_DEPTH)})
    refuse(unstorable({"data": data}))
    if len(msgspec.json.encode(data)) > MAX_DATA:
        refuse({"data": Reason("maxBytes", MAX_DATA)})


async def _report(
    gateway: Gateway,
    call: Call[Any],
    kind: Literal["received", "converted"],
    action: str = "",
    data: dict[str, Any] | None = None,
) -> rpc.ReceiptReply:
    caller = call.caller
    if caller.bearer_only and caller.subscription_id is None:
        raise ResourceNotFound(id=call.id())
    receipt = rpc.Receipt(
        caller.application_id, call.id(), kind, caller.actor, action, data or {}, caller.subscription_id
    )
    return await gateway.bus.call("lifecycle", "receipt", receipt, rpc.ReceiptReply)


ROUTES = (
    Route(
        method="POST",
        path="/messages/{id}/status",
        summary="Report that a message was received or acted on",
        scopes=("send", "client"),
        handler=status,
        body=StatusBody,
        answer=StatusReported,
        errors=("resource_not_found",),
        example={"status": "received"},
    ),
    Route(
        method="POST",
        path="/messages/{id}/convert",
        summary="Report that somebody acted on a message",
        scopes=("send", "client"),
        handler=convert,
        body=ConvertBody,
        answer=ConversionReported,
        errors=("resource_not_found",),
        example={"action": "clicked_button", "data": {"button_id": "confirm"}},
    ),
)
