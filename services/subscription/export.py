"""All that this service holds about a person, page by page, and nothing of who else had the same device."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import msgspec

from libs import errors
from libs.ids import is_id
from libs.pg import Pool, Row
from libs.rpc import (
    ExportHistory,
    ExportUser,
    HeldEvent,
    HeldSubscription,
    HistoryExport,
    SubscriptionEventView,
    SubscriptionView,
    UserExport,
)
from services.subscription import persons, queries_export
from services.subscription.queries_export import END, Span
from services.subscription.users import view

MAX_PAGE = 1_000


class Exports:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def export_user(self, request: ExportUser) -> UserExport:
        """Raises `ResourceNotFound`, `ValidationFailed`."""
        _check(request.limit)
        if request.after is not None and not is_id(request.after):
            raise errors.ValidationFailed(fields={"after": "must be a UUID"})
        application_id = request.application_id
        async with self._pool.connection() as c:
            person = await persons.find(c, application_id, request.name)
            held = await queries_export.held_subscriptions(c, application_id, person.id, request.after, request.limit)
            ever = await queries_export.ever_linked(c, application_id, person.id)
            key_ids = await queries_export.keys_of(c, application_id, person.id)
        more = held[-1]["id"] if len(held) == request.limit else None
        return UserExport(view(person), [_held(fields) for fields in held], key_ids, sorted(ever), more)

    async def export_history(self, request: ExportHistory) -> HistoryExport:
        """Raises `ResourceNotFound`, `ValidationFailed`."""
        _check(request.limit)
        application_id, user_id = request.application_id, request.user_id
        async with self._pool.connection() as c:
            if (await persons.find(c, application_id, user_id)).id != user_id:
                raise errors.ResourceNotFound(id=user_id)
            ever = await queries_export.ever_linked(c, application_id, user_id)
            links = await queries_export.links(c, application_id, list(ever))
            found = spans(user_id, ever, links)
            rows = await queries_export.history(c, application_id, found, request.after or 0, request.limit)
        more = rows[-1]["position"] if len(rows) == request.limit else None
        return HistoryExport([_event(row) for row in rows], more)


def spans(user_id: str, owners: Mapping[str, str | None], links: Sequence[Row]) -> list[Span]:
    """When each subscription was the user's, or nobody's before it became the user's.

    `owners`: whose each subscription is now; `links`: its changes of owner, in order.
    """
    changes = {key: list(rows) for key, rows in groupby(links, key=lambda row: str(row["subscription_id"]))}
    return [span for each, owner in owners.items() for span in _spans(user_id, each, owner, changes.get(each, []))]


def _spans(user_id: str, subscription_id: str, owner: str | None, changes: Sequence[Row]) -> list[Span]:
    found, first = [], 0
    for n, change in enumerate(changes):
        if change["kind"] == "user_linked":
            following = changes[n + 1] if n + 1 < len(changes) else None
            last = END if following is None else following["position"]
        else:
            last = change["position"]
        if change["user_id"] == user_id and last >= first:
            found.append(Span(subscription_id, first, last))
        first = max(first, last + 1) if last < END else END
    if not changes and owner == user_id:
        found.append(Span(subscription_id, 0, END))
    return found


def _held(fields: dict[str, object]) -> HeldSubscription:
    archived_at_ms = fields.pop("archived_at_ms")
    return HeldSubscription(msgspec.convert(fields, SubscriptionView), msgspec.convert(archived_at_ms, int | None))


def _event(row: Row) -> HeldEvent:
    fields = dict(row)
    subscription_id = fields.pop("subscription_id")
    return HeldEvent(subscription_id, msgspec.convert(fields, SubscriptionEventView))


def _check(limit: int) -> None:
    if not 1 <= limit <= MAX_PAGE:
        raise errors.ValidationFailed(fields={"limit": f"1 to {MAX_PAGE}"})
