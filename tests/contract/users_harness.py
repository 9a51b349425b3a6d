"""The subscription service, asked over NATS about users; and what its tables hold, with the keys that are left."""

import contextlib
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from libs import config, rpc
from libs.bus import Bus
from libs.pg import Connection, single_connection
from libs.seal import DataKey, KeyRing, SealError, associated, key_id_of
from services.subscription.__main__ import start
from services.subscription.settings import Settings
from tests.databases import Database
from tests.in_process import running

SHOP = "01990000-0000-7000-8000-00000000000a"
OTHER = "01990000-0000-7000-8000-00000000000b"
ACTOR = "key:01990000-0000-7000-8000-00000000000c"
_numbers = count(1)


class UsersHarness:
    """What a test may ask and tell the service, and what it may look at."""

    def __init__(self, bus: Bus, ring: KeyRing, admin: Connection) -> None:
        self.bus = bus
        self.ring = ring
        self.admin = admin
        self.forgotten: list[rpc.ForgetSubjects] = []
        """What lifecycle was asked to forget."""

    async def device(self, application_id: str = SHOP, token: str | None = None, **more: Any) -> str:
        """A subscription's id."""
        token = token or f"{next(_numbers):064x}"
        request = rpc.CreateSubscription(application_id, "iOSPush", token, ACTOR, **more)
        return (await self.bus.call("subscription", "create", request, rpc.Registered)).view.id

    async def identify(self, name: str, *ids: str, application_id: str = SHOP, **more: Any) -> rpc.UserView:
        request = rpc.IdentifyUser(application_id, name, list(ids), ACTOR, **more)
        return await self.bus.call("subscription", "identify", request, rpc.UserView)

    async def log_out(self, *ids: str, application_id: str = SHOP) -> list[str]:
        request = rpc.LogOut(application_id, list(ids), ACTOR)
        return (await self.bus.call("subscription", "logout", request, rpc.LoggedOut)).unlinked

    async def user(self, name: str, application_id: str = SHOP) -> rpc.UserView:
        return await self.bus.call("subscription", "get_user", rpc.GetUser(application_id, name), rpc.UserView)

    async def devices(self, name: str, application_id: str = SHOP) -> list[str]:
        request = rpc.UserSubscriptions(application_id, name)
        found = await self.bus.call("subscription", "of_user", request, rpc.SubscriptionsOfUser)
        return [view.id for view in found.subscriptions]

    async def view(self, subscription_id: str, application_id: str = SHOP) -> rpc.SubscriptionView:
        request = rpc.GetSubscription(application_id, subscription_id)
        return await self.bus.call("subscription", "get", request, rpc.SubscriptionView)

    async def erase(self, name: str, request_id: str, application_id: str = SHOP) -> rpc.Erasure:
        request = rpc.EraseUser(application_id, name, ACTOR, request_id)
        return await self.bus.call("subscription", "erase_user", request, rpc.Erasure)

    async def erasure(self, request_id: str, application_id: str = SHOP) -> rpc.Erasure:
        return await self.bus.call("subscription", "erasure", rpc.GetErasure(application_id, request_id), rpc.Erasure)

    async def reapply(self, *records: rpc.ErasureRecord) -> int:
        request = rpc.ReapplyErasures(list(records))
        return (await self.bus.call("subscription", "reapply_erasures", request, rpc.ErasuresReapplied)).applied

    async def export(self, name: str, limit: int = 200, application_id: str = SHOP) -> list[rpc.UserExport]:
        """All pages."""
        pages: list[rpc.UserExport] = []
        while not pages or pages[-1].next_after is not None:
            request = rpc.ExportUser(application_id, name, pages[-1].next_after if pages else None, limit)
            pages.append(await self.bus.call("subscription", "export_user", request, rpc.UserExport))
        return pages

    async def history(self, user_id: str, limit: int = 500, application_id: str = SHOP) -> list[rpc.HeldEvent]:
        """All pages."""
        pages: list[rpc.HistoryExport] = []
        while not pages or pages[-1].next_after is not None:
            request = rpc.ExportHistory(application_id, user_id, pages[-1].next_after if pages else None, limit)
            pages.append(await self.bus.call("subscription", "export_history", request, rpc.HistoryExport))
        return [event for page in pages for event in page.events]

    async def resolve(self, *ids: str, keys: tuple[bytes, ...] = (), application_id: str = SHOP) -> rpc.Resolved:
        request = rpc.Resolve(application_id, list(ids), list(keys))
        return await self.bus.call("subscription", "resolve", request, rpc.Resolved)

    async def key_for(self, subscription_id: str) -> DataKey:
        """Under which a message to it would be sealed now."""
        found = await self.resolve(subscription_id)
        key_id = found.recipients[0].key_id
        return self.ring.unwrap(key_id, found.keys[key_id])

    async def is_readable(self, sealed: bytes) -> bool:
        """Whether what was sealed for a message can be opened with the keys that there are."""
        keys = (await self.resolve(keys=(key_id_of(sealed),))).keys
        return key_id_of(sealed) in keys

    async def token(self, subscription_id: str) -> str | None:
        """As the dispatcher would open it; None: it cannot be."""
        found = await self.resolve(subscription_id)
        if not found.recipients:
            return None
        sealed = found.recipients[0].sealed_token
        key_id = key_id_of(sealed)
        bound_to = associated(SHOP, "subscriptions.sealed_token", subscription_id)
        try:
            return self.ring.unwrap(key_id, found.keys[key_id]).open(sealed, bound_to).decode()
        except (KeyError, SealError):
            return None

    async def kinds(self, subscription_id: str) -> list[str]:
        """The history of a subscription."""
        rows = await self.admin.fetch(
            "SELECT kind FROM subscription.subscription_events WHERE subscription_id = $1 ORDER BY position",
            subscription_id,
        )
        return [row["kind"] for row in rows]

    async def key_ids(self) -> set[bytes]:
        """All data keys that are left, wherever they lie."""
        rows = await self.admin.fetch(
            "SELECT id FROM subscription.data_keys UNION "
            "SELECT key_id FROM subscription.subscriptions WHERE wrapped_key IS NOT NULL"
        )
        return {UUID(str(row[0])).bytes for row in rows}


@contextlib.asynccontextmanager
async def users(
    database: Database, ring_file: Path, nats_settings: config.Nats, bus: Bus, *, lifecycle: bool = True
) -> AsyncIterator[UsersHarness]:
    """`lifecycle`: whether there is one to be asked to forget."""
    settings = Settings(
        config.Database(database.dsn("subscription"), pool=6), config.Keys(str(ring_file)), nats_settings
    )
    async with single_connection(database.admin_dsn) as admin, running("subscription", start, settings):
        harness = UsersHarness(bus, KeyRing.load(ring_file), admin)
        if lifecycle:
            await serve_lifecycle(harness)
        yield harness


async def serve_lifecycle(harness: UsersHarness) -> None:
    async def forget(request: rpc.ForgetSubjects) -> rpc.Empty:
        harness.forgotten.append(request)
        return rpc.Empty()

    await harness.bus.serve("lifecycle", {"forget": (rpc.ForgetSubjects, forget)})
