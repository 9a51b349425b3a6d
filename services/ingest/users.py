"""Users: who a device belongs to, and all about one person: shown, exported, erased (REF-001 §3)."""

from libs import rpc
from libs.api.users import (
    Deletion,
    IdentifyBody,
    LoggedOut,
    LogoutBody,
    User,
    UserData,
    UserDeleted,
    UserSubscriptions,
)
from libs.errors import PermissionDenied, ResourceNotFound, ValidationFailed
from libs.ids import is_id, new_id
from services.ingest import user_export
from services.ingest.auth import SECRET_HEADER
from services.ingest.errors import Reason
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.identity import verify
from services.ingest.render import rfc3339, rfc3339_or_none
from services.ingest.subscription_views import rendered

DELETION = "del-"
"""Before the id of a deletion, as REF-001 shows it; it may be left out."""
DELETED = "User deletion request has been processed"


async def identify(gateway: Gateway, call: Call[IdentifyBody]) -> Answer:
    body, caller = call.input, call.caller
    verify(caller, body.identity_token, body.external_id)
    ids = _own(call, body.subscriptions)
    request = rpc.IdentifyUser(caller.application_id, body.external_id, ids, caller.actor, call.new_id, _source(call))
    found = await gateway.bus.call("subscription", "identify", request, rpc.UserView)
    return Answer(200, _user(found), subjects=(found.user_id, *ids), resource=f"user/{found.user_id}")


async def logout(gateway: Gateway, call: Call[LogoutBody]) -> Answer:
    ids = _own(call, call.input.subscriptions)
    if not ids:
        raise ValidationFailed(fields={"subscriptions": Reason("minItems", 1)})
    request = rpc.LogOut(call.caller.application_id, ids, call.caller.actor, _source(call))
    found = await gateway.bus.call("subscription", "logout", request, rpc.LoggedOut)
    return Answer(200, LoggedOut(found.unlinked), subjects=tuple(ids))


def _own(call: Call[IdentifyBody] | Call[LogoutBody], asked: list[str]) -> list[str]:
    """The subscriptions meant; with a `client` key the only one there is. Raises what else there is no right to."""
    ids = [text.lower() for text in asked]
    if not call.caller.bearer_only:
        return ids
    own = call.caller.subscription_id
    if own is None:
        raise PermissionDenied(header=SECRET_HEADER)
    for each in ids:
        if each != own:
            raise ResourceNotFound(id=each)
    return [own]


def _source(call: Call[IdentifyBody] | Call[LogoutBody]) -> rpc.Act:
    return "sdk" if call.caller.bearer_only else "api"


async def get(gateway: Gateway, call: Call[None]) -> Answer:
    question = rpc.GetUser(call.caller.application_id, call.parameters["external_id"])
    return Answer(200, _user(await gateway.bus.call("subscription", "get_user", question, rpc.UserView)))


async def subscriptions(gateway: Gateway, call: Call[None]) -> Answer:
    question = rpc.UserSubscriptions(call.caller.application_id, call.parameters["external_id"])
    found = await gateway.bus.call("subscription", "of_user", question, rpc.SubscriptionsOfUser)
    return Answer(200, UserSubscriptions([rendered(view) for view in found.subscriptions]))


async def delete(gateway: Gateway, call: Call[None]) -> Answer:
    caller = call.caller
    request = rpc.EraseUser(caller.application_id, call.parameters["external_id"], caller.actor, new_id())
    done = await gateway.bus.call("subscription", "erase_user", request, rpc.Erasure)
    answer = UserDeleted(DELETED, f"{DELETION}{done.request_id}")
    return Answer(200, answer, resource=f"user/{done.user_id}")


async def deletion(gateway: Gateway, call: Call[None]) -> Answer:
    identifier = call.parameters["id"].removeprefix(DELETION)
    if not is_id(identifier):
        raise ResourceNotFound(id=identifier[:64])
    question = rpc.GetErasure(call.caller.application_id, identifier.lower())
    found = await gateway.bus.call("subscription", "erasure", question, rpc.Erasure)
    return Answer(
        200,
        Deletion(
            request_id=f"{DELETION}{found.request_id}",
            status=found.status,
            requested_at=rfc3339(found.requested_at_ms),
            completed_at=rfc3339_or_none(found.completed_at_ms),
            subscriptions=found.subscriptions,
        ),
    )


async def export(gateway: Gateway, call: Call[None]) -> Answer:
    application_id = call.caller.application_id
    question = rpc.ExportUser(application_id, call.parameters["external_id"])
    first = await gateway.bus.call("subscription", "export_user", question, rpc.UserExport)
    pieces = user_export.pieces(gateway.bus, application_id, _user(first.user), first, call.language)
    return Answer(200, None, stream=pieces, resource=f"user/{first.user.user_id}")


def _user(view: rpc.UserView) -> User:
    return User(
        user_id=view.user_id,
        external_id=view.external_id,
        created_at=rfc3339(view.created_at_ms),
        last_active_at=rfc3339_or_none(view.last_active_at_ms),
    )


ROUTES = (
    Route(
        method="POST",
        path="/users/identify",
        summary="Say whose subscriptions these are",
        scopes=("manage", "client"),
        handler=identify,
        body=IdentifyBody,
        answer=User,
        errors=("resource_not_found",),
        audit="user.identify",
        example={"external_id": "user_123", "subscriptions": ["0199a1b2-0000-7000-8000-000000000002"]},
    ),
    Route(
        method="POST",
        path="/users/logout",
        summary="Say that nobody is known at these subscriptions any more",
        scopes=("manage", "client"),
        handler=logout,
        body=LogoutBody,
        answer=LoggedOut,
        errors=("resource_not_found",),
        audit="user.logout",
        example={"subscriptions": ["0199a1b2-0000-7000-8000-000000000002"]},
    ),
    Route(
        method="GET",
        path="/users/{external_id}",
        summary="Look a user up",
        scopes=("read",),
        handler=get,
        answer=User,
        errors=("resource_not_found",),
    ),
    Route(
        method="GET",
        path="/users/{external_id}/subscriptions",
        summary="A user's subscriptions",
        scopes=("read",),
        handler=subscriptions,
        answer=UserSubscriptions,
        errors=("resource_not_found",),
    ),
    Route(
        method="GET",
        path="/users/{external_id}/export",
        summary="Everything held about a user",
        scopes=("manage",),
        handler=export,
        answer=UserData,
        errors=("resource_not_found",),
        audit="user.export",
    ),
    Route(
        method="DELETE",
        path="/users/{external_id}",
        summary="Forget a user: from now on nothing of the person can be read",
        scopes=("manage",),
        handler=delete,
        answer=UserDeleted,
        errors=("resource_not_found",),
        audit="user.delete",
    ),
    Route(
        method="GET",
        path="/deletions/{id}",
        summary="Whether a deletion is completed",
        scopes=("read",),
        handler=deletion,
        answer=Deletion,
        errors=("resource_not_found",),
    ),
)
