"""Subscriptions: register a device, look it up."""

import re
from typing import Any

import msgspec

from libs import rpc
from libs.errors import InvalidSubscriptionType, InvalidToken, PermissionDenied
from services.ingest.acceptance import CHANNELS
from services.ingest.decode import Decoder
from services.ingest.exchange import Call, Gateway
from services.ingest.models import DeviceInfo, SubscriptionBody
from services.ingest.render import Answer, rfc3339, rfc3339_or_none

TOKENS = {
    "apns": re.compile(r"(?:[0-9a-fA-F]{2}){32,100}"),
    "fcm": re.compile(r"[\x21-\x7e]{1,4096}"),
}
"""APNs: hexadecimal bytes whose number Apple may change. FCM: opaque printable text."""

_subscription = Decoder(SubscriptionBody)


async def create(gateway: Gateway, call: Call) -> Answer:
    body = _subscription.decode(call.body)
    _check(body, call.caller.application_id)
    request = rpc.CreateSubscription(
        application_id=call.caller.application_id,
        type=body.type,
        token=body.token,
        actor=call.caller.actor,
        token_kind=body.token_kind,
        user_id=body.user_id,
        device_info=_device(body.device_info),
        ad_consent=body.ad_consent,
    )
    view = await gateway.bus.call("subscription", "create", request, rpc.SubscriptionView)
    data = {
        "subscription_id": view.id,
        "type": view.type,
        "subscription_status": view.subscription_status,
        "created_at": rfc3339(view.created_at_ms),
        "token_hint": view.token_hint,
    }
    return Answer(201, data)


async def get(gateway: Gateway, call: Call) -> Answer:
    question = rpc.GetSubscription(call.caller.application_id, call.id())
    view = await gateway.bus.call("subscription", "get", question, rpc.SubscriptionView)
    return Answer(200, _rendered(view))


def _check(body: SubscriptionBody, application_id: str) -> None:
    """Raises `PermissionDenied`, `InvalidSubscriptionType`, `InvalidToken`."""
    if body.application_id is not None and body.application_id.lower() != application_id:
        raise PermissionDenied(application_id=body.application_id)
    channel = CHANNELS.get(body.type)
    if channel is None:
        raise InvalidSubscriptionType(type=body.type[:64], supported=list(CHANNELS))
    if not TOKENS[channel].fullmatch(body.token):
        raise InvalidToken(type=body.type)


def _device(device: DeviceInfo | None) -> rpc.DeviceInfo:
    if device is None:
        return rpc.DeviceInfo()
    told = msgspec.convert(device, rpc.DeviceInfo, from_attributes=True)
    country = told.country_code
    # Laws go by country: `kr` must not escape them.
    return told if country is None else msgspec.structs.replace(told, country_code=country.upper())


def _rendered(view: rpc.SubscriptionView) -> dict[str, Any]:
    return {
        "id": view.id,
        "type": view.type,
        "user_id": view.user_id,
        "external_id": view.external_id,
        "subscription_status": view.subscription_status,
        "token_hint": view.token_hint,
        "device_info": view.device_info,
        "tags": view.tags,
        "ad_consent": view.ad_consent,
        "created_at": rfc3339(view.created_at_ms),
        "updated_at": rfc3339(view.updated_at_ms),
        "subscribed_at": rfc3339_or_none(view.subscribed_at_ms),
        "unsubscribed_at": rfc3339_or_none(view.unsubscribed_at_ms),
        "last_active_at": rfc3339_or_none(view.last_active_at_ms),
    }
