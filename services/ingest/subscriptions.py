"""Subscriptions: registered, looked up, listed, brought up to date, archived. `consent` and `tags` are beside it."""

import msgspec
from msgspec import UNSET

from libs import rpc
from libs.api.fields import CursorPaging
from libs.api.subscriptions import (
    DeviceInfo,
    Subscription,
    SubscriptionArchived,
    SubscriptionBody,
    SubscriptionCreated,
    SubscriptionHistory,
    SubscriptionQuery,
    Subscriptions,
    SubscriptionUpdate,
    TokenBody,
    TokenUpdated,
)
from services.ingest import identity
from services.ingest.auth import Caller
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.render import pagination, rfc3339, rfc3339_or_none
from services.ingest.subscription_views import event_of, modified_ms, position_of, rendered

_KNOWN = "resource_not_found"
_TOKEN_ERRORS = ("invalid_subscription_type", "invalid_token", "duplicate_subscription")
_DEVICE = {"device_model": "iPhone 13", "device_os": "iOS 15.4", "device_language": "ko", "country_code": "KR"}


async def create(gateway: Gateway, call: Call[SubscriptionBody]) -> Answer:
    return await _register(gateway, call, upsert=False)


async def upsert(gateway: Gateway, call: Call[SubscriptionBody]) -> Answer:
    return await _register(gateway, call, upsert=True)


async def _register(gateway: Gateway, call: Call[SubscriptionBody], *, upsert: bool) -> Answer:
    caller, body = call.caller, call.input
    if body.user_id is not None:
        identity.verify(caller, body.identity_token, body.user_id)
    request = rpc.CreateSubscription(
        application_id=caller.application_id,
        type=body.type,
        token=body.token,
        actor=caller.actor,
        token_kind=body.token_kind,
        user_id=body.user_id,
        device_info=_device(body.device_info) or rpc.DeviceInfo(),
        ad_consent=body.ad_consent,
        installation_id=body.installation_id,
        tags=body.tags,
        double_opt_in=body.double_opt_in,
        upsert=upsert,
        client=caller.bearer_only,
        bearer=caller.subscription_id,
        new_id=call.new_id,
        night_consent=body.night_consent,
        act=_act(caller),
        quiet_hours=body.quiet_hours,
    )
    return _registered(await gateway.bus.call("subscription", "create", request, rpc.Registered))


def _registered(found: rpc.Registered) -> Answer:
    view = found.view
    data = SubscriptionCreated(
        subscription_id=view.id,
        type=view.type,
        subscription_status=view.subscription_status,
        created_at=rfc3339(view.created_at_ms),
        token_hint=view.token_hint,
        subscription_secret=found.secret if found.secret is not None else UNSET,
    )
    subjects = (view.id, view.user_id) if view.user_id is not None else (view.id,)
    return Answer(201 if found.created else 200, data, subjects=subjects, resource=f"subscription/{view.id}")


async def get(gateway: Gateway, call: Call[None]) -> Answer:
    question = rpc.GetSubscription(call.caller.application_id, call.subscription_id())
    view = await gateway.bus.call("subscription", "get", question, rpc.SubscriptionView)
    return Answer(200, rendered(view), modified_ms=modified_ms(view))


async def list_all(gateway: Gateway, call: Call[SubscriptionQuery]) -> Answer:
    query = call.input
    question = rpc.ListSubscriptions(
        application_id=call.caller.application_id,
        limit=query.per_page,
        offset=0 if query.cursor is not None else (query.page - 1) * query.per_page,
        before=query.cursor,
        user_id=query.user_id,
        type=query.type,
        status=query.status,
        tag=query.tag,
    )
    page = await gateway.bus.call("subscription", "list", question, rpc.SubscriptionPage)
    found = pagination(query, page.total, page.total_is_estimate, page.next_before)
    return Answer(200, Subscriptions([rendered(view) for view in page.subscriptions], found))


async def update(gateway: Gateway, call: Call[SubscriptionUpdate]) -> Answer:
    body = call.input
    request = rpc.UpdateSubscription(
        application_id=call.caller.application_id,
        subscription_id=call.subscription_id(),
        actor=call.caller.actor,
        act=_act(call.caller),
        token=body.token,
        token_kind=body.token_kind,
        device_info=_device(body.device_info),
        subscription_status=body.subscription_status,
        ad_consent=body.ad_consent,
        night_consent=body.night_consent,
        quiet_hours=body.quiet_hours,
    )
    view = await gateway.bus.call("subscription", "update", request, rpc.SubscriptionView)
    return Answer(200, rendered(view), modified_ms=modified_ms(view))


async def update_token(gateway: Gateway, call: Call[TokenBody]) -> Answer:
    request = rpc.UpdateSubscription(
        application_id=call.caller.application_id,
        subscription_id=call.subscription_id(),
        actor=call.caller.actor,
        act=_act(call.caller),
        token=call.input.token,
        token_kind=call.input.token_kind,
    )
    view = await gateway.bus.call("subscription", "update", request, rpc.SubscriptionView)
    updated = rfc3339_or_none(view.token_updated_at_ms)
    return Answer(200, TokenUpdated(view.id, updated, view.token_hint, view.subscription_status), subjects=(view.id,))


async def archive(gateway: Gateway, call: Call[None]) -> Answer:
    request = rpc.ArchiveSubscription(call.caller.application_id, call.id(), call.caller.actor)
    done = await gateway.bus.call("subscription", "archive", request, rpc.Archived)
    return Answer(200, SubscriptionArchived(request.subscription_id, rfc3339(done.archived_at_ms)))


async def events(gateway: Gateway, call: Call[CursorPaging]) -> Answer:
    query = call.input
    question = rpc.ListSubscriptionEvents(
        application_id=call.caller.application_id,
        subscription_id=call.id(),
        limit=query.per_page,
        before=None if query.cursor is None else position_of(query.cursor),
        offset=0 if query.cursor is not None else (query.page - 1) * query.per_page,
    )
    found = await gateway.bus.call("subscription", "events", question, rpc.SubscriptionEvents)
    after = str(found.next_before) if found.next_before is not None else None
    page = pagination(query, found.total, found.total_is_estimate, after)
    return Answer(200, SubscriptionHistory([event_of(event) for event in found.events], page))


def _act(caller: Caller) -> rpc.Act:
    return "sdk" if caller.bearer_only else "api"


def _device(device: DeviceInfo | None) -> rpc.DeviceInfo | None:
    if device is None:
        return None
    told = msgspec.convert(device, rpc.DeviceInfo, from_attributes=True)
    country = told.country_code
    # Laws go by country: `kr` must not escape them.
    return told if country is None else msgspec.structs.replace(told, country_code=country.upper())


_BELOW = "/subscriptions/{id}"
ROUTES = (
    Route(
        method="POST",
        path="/subscriptions",
        summary="Register a device or an address",
        scopes=("manage", "client"),
        handler=create,
        body=SubscriptionBody,
        answer=SubscriptionCreated,
        status=201,
        other_statuses=(200,),
        errors=(*_TOKEN_ERRORS, "permission_denied"),
        audit="subscription.create",
        example={"type": "iOSPush", "token": "a5" * 32, "device_info": _DEVICE},
    ),
    Route(
        method="PUT",
        path="/subscriptions",
        summary="Register a device or an address, or bring what is there up to date",
        scopes=("manage", "client"),
        handler=upsert,
        body=SubscriptionBody,
        answer=SubscriptionCreated,
        status=201,
        other_statuses=(200,),
        errors=(*_TOKEN_ERRORS[:2], "permission_denied"),
        audit="subscription.upsert",
        example={"type": "AndroidPush", "token": "fcm-registration-token", "installation_id": "8f14e45f"},
    ),
    Route(
        method="GET",
        path="/subscriptions",
        summary="List subscriptions, newest first",
        scopes=("read",),
        handler=list_all,
        query=SubscriptionQuery,
        answer=Subscriptions,
    ),
    Route(
        method="GET",
        path=_BELOW,
        summary="Look a subscription up",
        scopes=("read", "client"),
        handler=get,
        answer=Subscription,
        errors=(_KNOWN,),
    ),
    *(
        Route(
            method=method,
            path=_BELOW,
            summary="Update a subscription: what is not given stays as it is",
            scopes=("manage", "client"),
            handler=update,
            body=SubscriptionUpdate,
            answer=Subscription,
            errors=(_KNOWN, *_TOKEN_ERRORS[1:]),
            audit="subscription.update",
            example={"device_info": {"app_version": "1.0.1"}},
        )
        for method in ("PATCH", "PUT")
    ),
    Route(
        method="DELETE",
        path=_BELOW,
        summary="Archive a subscription: its token may be registered anew",
        scopes=("manage",),
        handler=archive,
        answer=SubscriptionArchived,
        errors=(_KNOWN,),
        audit="subscription.archive",
    ),
    Route(
        method="POST",
        path=f"{_BELOW}/update-token",
        summary="Replace the token",
        scopes=("manage", "client"),
        handler=update_token,
        body=TokenBody,
        answer=TokenUpdated,
        errors=(_KNOWN, *_TOKEN_ERRORS[1:]),
        audit="subscription.update_token",
        example={"token": "b7" * 32},
    ),
    Route(
        method="GET",
        path=f"{_BELOW}/events",
        summary="A subscription's history: who changed what, when and why",
        scopes=("read",),
        handler=events,
        query=CursorPaging,
        answer=SubscriptionHistory,
        errors=(_KNOWN,),
    ),
)
