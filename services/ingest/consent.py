"""Consent: subscriptions switched off and on again, and addresses confirmed (DECISIONS, "Consent")."""

from typing import Literal

from libs import rpc
from libs.api.subscriptions import DisableBody, Disabled, EnableBody, Enabled
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.render import rfc3339_or_none


async def disable(gateway: Gateway, call: Call[DisableBody]) -> Answer:
    by_api = call.input.by == "api"
    if by_api:
        call.caller.require(("manage",))
    view = await _set_status(gateway, call, "disable_by_api" if by_api else "disable", call.subscription_id())
    data = Disabled(view.id, view.subscription_status, rfc3339_or_none(view.unsubscribed_at_ms))
    return Answer(200, data, subjects=(view.id,))


async def enable(gateway: Gateway, call: Call[EnableBody]) -> Answer:
    view = await _set_status(gateway, call, "enable", call.subscription_id())
    data = Enabled(view.id, view.subscription_status, rfc3339_or_none(view.subscribed_at_ms))
    return Answer(200, data, subjects=(view.id,))


async def confirm(gateway: Gateway, call: Call[EnableBody]) -> Answer:
    view = await _set_status(gateway, call, "confirm", call.id())
    data = Enabled(view.id, view.subscription_status, rfc3339_or_none(view.subscribed_at_ms))
    return Answer(200, data, subjects=(view.id,))


async def _set_status(
    gateway: Gateway,
    call: Call[DisableBody] | Call[EnableBody],
    event: Literal["enable", "disable", "disable_by_api", "confirm"],
    subscription_id: str,
) -> rpc.SubscriptionView:
    act: rpc.Act = "user" if call.caller.bearer_only else "api"
    request = rpc.SetStatus(call.caller.application_id, subscription_id, call.caller.actor, event, act)
    return await gateway.bus.call("subscription", "set_status", request, rpc.SubscriptionView)


ROUTES = (
    Route(
        method="POST",
        path="/subscriptions/{id}/disable",
        summary="Unsubscribe: the person's own choice, or by the application",
        scopes=("manage", "client"),
        handler=disable,
        body=DisableBody,
        body_required=False,
        answer=Disabled,
        errors=("resource_not_found",),
        audit="subscription.disable",
        example={"by": "user"},
    ),
    Route(
        method="POST",
        path="/subscriptions/{id}/enable",
        summary="Subscribe again: recorded as consent",
        scopes=("manage", "client"),
        handler=enable,
        body=EnableBody,
        body_required=False,
        answer=Enabled,
        errors=("resource_not_found", "permission_denied"),
        audit="subscription.enable",
        example={},
    ),
    Route(
        method="POST",
        path="/subscriptions/{id}/confirm",
        summary="Confirm an address that waits for it (double opt-in)",
        scopes=("manage",),
        handler=confirm,
        body=EnableBody,
        body_required=False,
        answer=Enabled,
        errors=("resource_not_found",),
        audit="subscription.confirm",
        example={},
    ),
)
