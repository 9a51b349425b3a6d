"""The subscription service, running, and what its tests ask of it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

from libs import config, rpc
from libs.bus import Bus
from libs.errors import SignalError
from libs.pg import Connection, single_connection
from libs.seal import KeyRing, associated, key_id_of
from services.subscription.__main__ import start
from services.subscription.settings import Settings
from tests.databases import Database
from tests.in_process import running

SHOP = "01990000-0000-7000-8000-00000000000a"
OTHER = "01990000-0000-7000-8000-00000000000b"
NOBODY = "01990000-0000-7000-8000-00000000000f"
ACTOR = "key:01990000-0000-7000-8000-00000000000c"
MAIL, PHONE = "reader@example.com", "+821012345678"


def apns(number: int) -> str:
    return f"{number:064x}"


class Service:
    """Asked over NATS, as other services ask it."""

    def __init__(self, bus: Bus, admin: Connection, ring: KeyRing) -> None:
        self.bus = bus
        self.admin = admin
        self.ring = ring

    async def register(self, token: str = apns(1), kind: str = "iOSPush", **more: Any) -> rpc.Registered:
        wish = rpc.CreateSubscription(**{"application_id": SHOP, "type": kind, "token": token, "actor": ACTOR, **more})
        return await self.bus.call("subscription", "create", wish, rpc.Registered)

    async def make(self, token: str = apns(1), kind: str = "iOSPush", **more: Any) -> rpc.SubscriptionView:
        return (await self.register(token, kind, **more)).view

    async def update(self, subscription_id: str, application_id: str = SHOP, **more: Any) -> rpc.SubscriptionView:
        request = rpc.UpdateSubscription(application_id, subscription_id, ACTOR, **more)
        return await self.bus.call("subscription", "update", request, rpc.SubscriptionView)

    async def set_status(
        self, subscription_id: str, event: Any, act: rpc.Act = "api", application_id: str = SHOP
    ) -> rpc.SubscriptionView:
        request = rpc.SetStatus(application_id, subscription_id, ACTOR, event, act)
        return await self.bus.call("subscription", "set_status", request, rpc.SubscriptionView)

    async def archive(self, subscription_id: str, application_id: str = SHOP) -> rpc.Archived:
        request = rpc.ArchiveSubscription(application_id, subscription_id, ACTOR)
        return await self.bus.call("subscription", "archive", request, rpc.Archived)

    async def tag(self, ids: list[str], application_id: str = SHOP, **more: Any) -> dict[str, dict[str, str]]:
        request = rpc.ChangeTags(application_id, ids, ACTOR, **more)
        return (await self.bus.call("subscription", "change_tags", request, rpc.TagsChanged)).tags

    async def get(self, subscription_id: str, application_id: str = SHOP) -> rpc.SubscriptionView:
        request = rpc.GetSubscription(application_id, subscription_id)
        return await self.bus.call("subscription", "get", request, rpc.SubscriptionView)

    async def page(self, application_id: str = SHOP, **more: Any) -> rpc.SubscriptionPage:
        request = rpc.ListSubscriptions(application_id, **more)
        return await self.bus.call("subscription", "list", request, rpc.SubscriptionPage)

    async def events(self, subscription_id: str, application_id: str = SHOP, **more: Any) -> rpc.SubscriptionEvents:
        request = rpc.ListSubscriptionEvents(application_id, subscription_id, **more)
        return await self.bus.call("subscription", "events", request, rpc.SubscriptionEvents)

    async def kinds(self, subscription_id: str) -> list[str]:
        """Of the history, oldest first."""
        return [event.kind for event in (await self.events(subscription_id)).events][::-1]

    async def resolve(self, *ids: str, application_id: str = SHOP, keys: list[bytes] | None = None) -> rpc.Resolved:
        request = rpc.Resolve(application_id, list(ids), keys or [])
        return await self.bus.call("subscription", "resolve", request, rpc.Resolved)

    async def resolve_users(self, *names: str, types: list[str] | None = None) -> rpc.UsersResolved:
        request = rpc.ResolveUsers(SHOP, list(names), types or [])
        return await self.bus.call("subscription", "resolve_users", request, rpc.UsersResolved)

    async def token(self, subscription_id: str) -> str:
        """As a dispatcher opens it."""
        found = await self.resolve(subscription_id)
        (recipient,) = found.recipients
        return self.open(recipient, found.keys)

    def open(self, recipient: rpc.Recipient, keys: dict[bytes, bytes]) -> str:
        key_id = key_id_of(recipient.sealed_token)
        bound_to = associated(SHOP, "subscriptions.sealed_token", recipient.subscription_id)
        return self.ring.unwrap(key_id, keys[key_id]).open(recipient.sealed_token, bound_to).decode()

    async def rows(self) -> int:
        """Subscriptions that are not archived."""
        return int(
            await self.admin.fetchval("SELECT count(*) FROM subscription.subscriptions WHERE archived_at IS NULL")
        )

    async def column(self, subscription_id: str, name: str) -> Any:
        """Of the row, archived or not."""
        return await self.admin.fetchval(
            f"SELECT {name} FROM subscription.subscriptions WHERE id = $1", UUID(subscription_id)
        )


async def outcome(call: Any) -> Any:
    """What was answered, or the error."""
    try:
        return await call
    except SignalError as error:
        return error


@contextlib.asynccontextmanager
async def serving(database: Database, ring_file: Path, nats: config.Nats, bus: Bus) -> AsyncIterator[Service]:
    settings = Settings(config.Database(database.dsn("subscription"), pool=4), config.Keys(str(ring_file)), nats)
    async with running("subscription", start, settings), single_connection(database.admin_dsn) as admin:
        yield Service(bus, admin, KeyRing.load(ring_file))
