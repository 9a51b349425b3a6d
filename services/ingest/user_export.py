"""Everything held about a person as one JSON document, written piece by piece: a page is in memory at a time."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from msgspec import structs

from libs import rpc
from libs.api.users import HeldMessage, HeldSubscription, HistoryEntry, User
from libs.bus import Bus
from services.ingest.errors import Language
from services.ingest.message_views import rendered as message_of
from services.ingest.message_views import rendered_event
from services.ingest.render import rfc3339_or_none
from services.ingest.subscription_views import event_of
from services.ingest.subscription_views import rendered as subscription_of

MESSAGES = 200
"""In one page, at most."""

_encode = msgspec.json.Encoder().encode


async def pieces(
    bus: Bus, application_id: str, user: User, first: rpc.UserExport, language: Language
) -> AsyncIterator[bytes]:
    """The envelope of `libs.api.users.UserData`. `first`: its first page."""
    yield b'{"status":"success","data":{"user":%b' % _encode(user)
    parts = {
        "subscriptions": _subscriptions(bus, application_id, first),
        "history": _history(bus, application_id, user.user_id),
        "messages": _messages(bus, application_id, first, language),
    }
    for name, pages in parts.items():
        yield b',"%b":[' % name.encode()
        separator = b""
        async for page in pages:
            if page:
                yield separator + b",".join(map(_encode, page))
                separator = b","
        yield b"]"
    yield b"}}"


async def _subscriptions(bus: Bus, application_id: str, first: rpc.UserExport) -> AsyncIterator[Sequence[Any]]:
    page = first
    while True:
        yield [_held(each) for each in page.subscriptions]
        if page.next_after is None:
            return
        question = rpc.ExportUser(application_id, first.user.user_id, page.next_after)
        page = await bus.call("subscription", "export_user", question, rpc.UserExport)


async def _history(bus: Bus, application_id: str, user_id: str) -> AsyncIterator[Sequence[Any]]:
    after: int | None = None
    while True:
        question = rpc.ExportHistory(application_id, user_id, after)
        page = await bus.call("subscription", "export_history", question, rpc.HistoryExport)
        yield [_entry(each) for each in page.events]
        if page.next_after is None:
            return
        after = page.next_after


async def _messages(
    bus: Bus, application_id: str, first: rpc.UserExport, language: Language
) -> AsyncIterator[Sequence[Any]]:
    after: str | None = None
    theirs = first.subscription_ids, first.key_ids
    while True:
        question = rpc.ExportMessages(application_id, first.user.user_id, *theirs, after, MESSAGES)
        page = await bus.call("lifecycle", "export", question, rpc.MessagesExport)
        yield [_message(view, language) for view in page.messages]
        if page.next_after is None:
            return
        after = page.next_after


def _held(held: rpc.HeldSubscription) -> HeldSubscription:
    archived_at = rfc3339_or_none(held.archived_at_ms)
    return HeldSubscription(**structs.asdict(subscription_of(held.view)), archived_at=archived_at)


def _entry(held: rpc.HeldEvent) -> HistoryEntry:
    return HistoryEntry(**structs.asdict(event_of(held.event)), subscription_id=held.subscription_id)


def _message(view: rpc.MessageView, language: Language) -> HeldMessage:
    timeline = [rendered_event(event, view, language) for event in view.events]
    return HeldMessage(**structs.asdict(message_of(view)), timeline=timeline)
