"""Tags of one subscription, or of many at once: all that exist, or none where one would have too many."""

from collections.abc import Mapping, Sequence

from libs import rpc
from libs.errors import ValidationFailed
from libs.ids import is_id
from libs.seal import KeyRing
from services.subscription.changes import Change, Changer
from services.subscription.edit import MAX_TAG_NAME, MAX_TAG_VALUE, MAX_TAGS, TOO_MANY_TAGS, Edit, Who
from services.subscription.rows import Book, Draft, Row

MAX_IDS = 1_000
"""Subscriptions in one request."""


class Tags:
    def __init__(self, changer: Changer, ring: KeyRing) -> None:
        self._changer = changer
        self._ring = ring

    async def change(self, request: rpc.ChangeTags) -> rpc.TagsChanged:
        if len(request.subscription_ids) > MAX_IDS:
            raise ValidationFailed(fields={"subscription_ids": f"at most {MAX_IDS} at a time"})
        check_tags(request.add, request.remove)
        change = _TagChange(request, self._ring)
        rows = await self._changer.submit(change) if change.subscription_ids else []
        return rpc.TagsChanged({row.id: row.tags for row in rows})


class _TagChange(Change):
    def __init__(self, request: rpc.ChangeTags, ring: KeyRing) -> None:
        known = is_id(request.application_id)
        self.application_id = request.application_id.lower()
        self.subscription_ids = [each.lower() for each in request.subscription_ids if known and is_id(each)]
        self._request = request
        self._ring = ring

    def apply(self, row: Row, book: Book) -> Draft:
        edit = Edit(row, Who(self._request.actor, self._request.act), book.now_ms, self._ring)
        edit.tags(self._request.add, self._request.remove)
        return edit.draft()


def check_tags(add: Mapping[str, str], remove: Sequence[str] = ()) -> None:
    """Raises `ValidationFailed`."""
    names_fit = all(1 <= len(name) <= MAX_TAG_NAME and "\0" not in name for name in (*add, *remove))
    values_fit = all(len(value) <= MAX_TAG_VALUE and "\0" not in value for value in add.values())
    if len(add) > MAX_TAGS:
        raise ValidationFailed(fields={"tags": TOO_MANY_TAGS})
    if len(remove) > MAX_TAGS or not names_fit or not values_fit:
        raise ValidationFailed(fields={"tags": "must have names of 1 to 128 and values of at most 256 characters"})
