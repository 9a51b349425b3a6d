"""Tags of subscriptions: of one, or of many at once (SEQ-001 §5)."""

from libs import rpc
from libs.api.subscriptions import ManyTagged, ManyTagKeysBody, ManyTagsBody, Tagged, TagKeysBody, TagsBody
from libs.errors import ResourceNotFound
from services.ingest.exchange import Answer, Call, Gateway, Route


async def add(gateway: Gateway, call: Call[TagsBody]) -> Answer:
    return await _one(gateway, call, add=call.input.tags)


async def remove(gateway: Gateway, call: Call[TagKeysBody]) -> Answer:
    return await _one(gateway, call, remove=call.input.tag_keys)


async def add_to_many(gateway: Gateway, call: Call[ManyTagsBody]) -> Answer:
    return await _many(gateway, call, add=call.input.tags)


async def remove_from_many(gateway: Gateway, call: Call[ManyTagKeysBody]) -> Answer:
    return await _many(gateway, call, remove=call.input.tag_keys)


async def _one(
    gateway: Gateway,
    call: Call[TagsBody] | Call[TagKeysBody],
    *,
    add: dict[str, str] | None = None,
    remove: list[str] | None = None,
) -> Answer:
    found = call.subscription_id()
    act: rpc.Act = "sdk" if call.caller.bearer_only else "api"
    request = rpc.ChangeTags(call.caller.application_id, [found], call.caller.actor, add or {}, remove or [], act)
    changed = await gateway.bus.call("subscription", "change_tags", request, rpc.TagsChanged)
    if found not in changed.tags:
        raise ResourceNotFound(id=found)
    return Answer(200, Tagged(found, changed.tags[found]), subjects=(found,))


async def _many(
    gateway: Gateway,
    call: Call[ManyTagsBody] | Call[ManyTagKeysBody],
    *,
    add: dict[str, str] | None = None,
    remove: list[str] | None = None,
) -> Answer:
    ids = list(dict.fromkeys(each.lower() for each in call.input.subscription_ids))
    request = rpc.ChangeTags(call.caller.application_id, ids, call.caller.actor, add or {}, remove or [])
    changed = await gateway.bus.call("subscription", "change_tags", request, rpc.TagsChanged)
    unknown = [each for each in ids if each not in changed.tags]
    return Answer(200, ManyTagged(len(changed.tags), unknown), subjects=tuple(changed.tags))


_EXAMPLE_ID = "0199a1b2-0000-7000-8000-000000000002"
ROUTES = (
    Route(
        method="POST",
        path="/subscriptions/tags",
        summary="Add or replace tags of many subscriptions",
        scopes=("manage",),
        handler=add_to_many,
        body=ManyTagsBody,
        answer=ManyTagged,
        audit="subscription.add_tags",
        example={"subscription_ids": [_EXAMPLE_ID], "tags": {"user_level": "silver"}},
    ),
    Route(
        method="DELETE",
        path="/subscriptions/tags",
        summary="Remove tags from many subscriptions",
        scopes=("manage",),
        handler=remove_from_many,
        body=ManyTagKeysBody,
        answer=ManyTagged,
        audit="subscription.remove_tags",
        example={"subscription_ids": [_EXAMPLE_ID], "tag_keys": ["user_level"]},
    ),
    Route(
        method="POST",
        path="/subscriptions/{id}/tags",
        summary="Add or replace tags",
        scopes=("manage", "client"),
        handler=add,
        body=TagsBody,
        answer=Tagged,
        errors=("resource_not_found",),
        audit="subscription.add_tags",
        example={"tags": {"premium_user": "true", "user_level": "gold"}},
    ),
    Route(
        method="DELETE",
        path="/subscriptions/{id}/tags",
        summary="Remove tags",
        scopes=("manage", "client"),
        handler=remove,
        body=TagKeysBody,
        answer=Tagged,
        errors=("resource_not_found",),
        audit="subscription.remove_tags",
        example={"tag_keys": ["user_level"]},
    ),
)
