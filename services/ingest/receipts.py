"""Receipts: an app reports that a message arrived, or that its user acted on it. Repeating one changes nothing."""

from typing import Any, Literal

import msgspec

from libs import rpc
from services.ingest.decode import MAX_DEPTH, Decoder, refuse, too_deep, unstorable
from services.ingest.errors import Reason
from services.ingest.exchange import Call, Gateway
from services.ingest.models import ConvertBody, StatusBody
from services.ingest.render import Answer, rfc3339_or_none

MAX_DATA = 4096
"""Bytes of JSON that an app may attach to a conversion."""

_status = Decoder(StatusBody)
_convert = Decoder(ConvertBody)


async def status(gateway: Gateway, call: Call) -> Answer:
    body = _status.decode(call.body)
    reply = await _report(gateway, call, body.status)
    data = {
        "id": call.id(),
        "status": reply.status,
        "received_at": rfc3339_or_none(reply.received_at_ms),
    }
    return Answer(200, data)


async def convert(gateway: Gateway, call: Call) -> Answer:
    body = _convert.decode(call.body)
    data = body.data or {}
    _check(data)
    reply = await _report(gateway, call, "converted", body.action, data)
    answer = {
        "id": call.id(),
        "status": reply.status,
        "converted_at": rfc3339_or_none(reply.converted_at_ms),
    }
    return Answer(200, answer)


def _check(data: dict[str, Any]) -> None:
    """Raises `ValidationFailed`."""
    if too_deep(data):
        refuse({"data": Reason("depth", MAX_DEPTH)})
    refuse(unstorable({"data": data}))
    if len(msgspec.json.encode(data)) > MAX_DATA:
        refuse({"data": Reason("maxBytes", MAX_DATA)})


async def _report(
    gateway: Gateway,
    call: Call,
    kind: Literal["received", "converted"],
    action: str = "",
    data: dict[str, Any] | None = None,
) -> rpc.ReceiptReply:
    caller = call.caller
    receipt = rpc.Receipt(caller.application_id, call.id(), kind, caller.actor, action, data or {})
    return await gateway.bus.call("lifecycle", "receipt", receipt, rpc.ReceiptReply)
