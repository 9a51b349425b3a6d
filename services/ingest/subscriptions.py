"""Subscriptions: register a device, look it up."""

import re

import msgspec

from libs import rpc
from libs.api.subscriptions import DeviceInfo, Subscription, SubscriptionBody, SubscriptionCreated
from libs.errors import InvalidSubscriptionType, InvalidToken
from services.ingest.acceptance import CHANNELS
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.render import rfc3339, rfc3339_or_none

TOKENS = {
    "apns": re.compile(r"(?:[0-9a-fA-F]{2}){32,100}"),
    "fcm": re.compile(r"[\x21-\x7e]{1,4096}"),
}
"""APNs: hexadecimal bytes whose number Apple may change. FCM: opaque printable text."""


async def create(gateway: Gateway, call: Call[SubscriptionBody]) -> Answer:
    body = call.input
    _check(body)
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
    view = (await gateway.bus.call("subscription", "create", request, rpc.Registered)).view
    created = rfc3339(view.created_at_ms)
    return Answer(201, SubscriptionCreated(view.id, view.type, view.subscription_status, created, view.token_hint))


async def get(gateway: Gateway, call: Call[None]) -> Answer:
    question = rpc.GetSubscription(call.caller.application_id, call.id())
    view = await gateway.bus.call("subscription", "get", question, rpc.SubscriptionView)
    return Answer(200, _rendered(view))


def _check(body: SubscriptionBody) -> None:
    """Raises `InvalidSubscriptionType`, `InvalidToken`."""
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


def _rendered(view: rpc.SubscriptionView) -> Subscription:
    return Subscription(
        id=view.id,
        type=view.type,
        user_id=view.user_id,
        external_id=view.external_id,
        subscription_status=view.subscription_status,
        token_hint=view.token_hint,
        device_info=msgspec.to_builtins(view.device_info),
        tags=view.tags,
        ad_consent=view.ad_consent,
        created_at=rfc3339(view.created_at_ms),
        updated_at=rfc3339(view.updated_at_ms),
        subscribed_at=rfc3339_or_none(view.subscribed_at_ms),
        unsubscribed_at=rfc3339_or_none(view.unsubscribed_at_ms),
        last_active_at=rfc3339_or_none(view.last_active_at_ms),
    )


ROUTES = (
    Route(
        method="POST",
        path="/subscriptions",
        summary="Register a device or an address",
        scopes=("manage",),
        handler=create,
        body=SubscriptionBody,
        answer=SubscriptionCreated,
        status=201,
        errors=("invalid_subscription_type", "invalid_token", "duplicate_subscription"),
        audit="subscription.create",
        example={"type": "iOSPush", "token": "a5" * 32, "device_info": {"country_code": "KR"}},
    ),
    Route(
        method="GET",
        path="/subscriptions/{id}",
        summary="Look a subscription up",
        scopes=("read",),
        handler=get,
        answer=Subscription,
        errors=("resource_not_found",),
    ),
)
