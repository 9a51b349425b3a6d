"""The messages to a person, with content and events, page by page: a page costs the same wherever it lies."""

from collections import defaultdict

from libs.errors import ValidationFailed
from libs.ids import is_id
from libs.pg import Pool, Row
from libs.rpc import ExportMessages, MessagesExport, MessageView
from libs.seal import key_id_of

from . import queries_erasure
from .seals import Seals
from .views import sealing_keys, view_of

MAX_PAGE = 500
MAX_SUBJECTS = 10_000
"""Subscriptions, and keys, of one person."""
MAX_BYTES = 2 * 1024**2
"""Of what is sealed in the messages of one page."""
_BEGINNING = "00000000-0000-0000-0000-000000000000"


class Exporter:
    def __init__(self, pool: Pool, seals: Seals) -> None:
        self._pool = pool
        self._seals = seals

    async def page(self, request: ExportMessages) -> MessagesExport:
        """A page may be short, or empty, while `next_after` says that there is more. Raises `ValidationFailed`."""
        _check(request)
        application_id = request.application_id
        async with self._pool.connection() as c:
            ids = await queries_erasure.held_messages(
                c, application_id, request.user_id, request.subscription_ids, request.after or _BEGINNING, request.limit
            )
            rows = await queries_erasure.messages(c, application_id, ids)
            events: dict[str, list[Row]] = defaultdict(list)
            for event in await queries_erasure.events_of(c, application_id, ids):
                events[str(event["message_id"])].append(event)
        fitting = _fitting(rows, events)
        theirs = [row for row in fitting if _is_theirs(request, row, events[str(row["id"])])]
        views = await self._views(application_id, theirs, events)
        more = len(fitting) < len(rows) or len(ids) == request.limit
        return MessagesExport(views, str(fitting[-1]["id"]) if fitting and more else None)

    async def _views(self, application_id: str, rows: list[Row], events: dict[str, list[Row]]) -> list[MessageView]:
        of_rows = [events[str(row["id"])] for row in rows]
        keys = await self._seals.keys(application_id, {key for found in of_rows for key in sealing_keys(found)})
        return [view_of(row, found, keys) for row, found in zip(rows, of_rows, strict=True)]


def _fitting(rows: list[Row], events: dict[str, list[Row]]) -> list[Row]:
    """The first of them that one reply can hold, at least one."""
    size = 0
    for n, row in enumerate(rows):
        size += sum(len(event["sealed"] or b"") for event in events[str(row["id"])])
        if n and size > MAX_BYTES:
            return rows[:n]
    return rows


def _is_theirs(request: ExportMessages, row: Row, events: list[Row]) -> bool:
    """To the user; or sent while nobody was known, under a key that became the user's."""
    if row["user_id"] is not None:
        return str(row["user_id"]) == request.user_id
    sealed = next((event["sealed"] for event in events if event["kind"] == "created"), None)
    return sealed is not None and key_id_of(sealed) in request.key_ids


def _check(request: ExportMessages) -> None:
    wrong = {}
    if not 1 <= request.limit <= MAX_PAGE:
        wrong["limit"] = f"1 to {MAX_PAGE}"
    if max(len(request.subscription_ids), len(request.key_ids)) > MAX_SUBJECTS:
        wrong["subscription_ids"] = f"at most {MAX_SUBJECTS}"
    if not all(map(is_id, [request.application_id, request.user_id, *request.subscription_ids])):
        wrong["user_id"] = "must be a UUID"
    if request.after is not None and not is_id(request.after):
        wrong["after"] = "must be a UUID"
    if wrong:
        raise ValidationFailed(fields=wrong)
