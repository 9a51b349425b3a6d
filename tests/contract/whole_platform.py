"""Every service that owns data, and the gateway, in one process over real Postgres and NATS: the REST API as a whole.

`whole_fixtures` starts it. Nothing is sent: dispatcher and senders do not run, so that messages stay where acceptance
left them; a test that needs more starts it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from libs import rpc
from libs.bus import Bus
from libs.ids import new_id
from tests.contract.rest_gateway import Answer
from tests.databases import Database

ALL_SCOPES = ["send", "read", "manage"]


class Tenant:
    """One application, asked with one of its keys."""

    def __init__(self, session: aiohttp.ClientSession, application_id: str, api_key: str) -> None:
        self.session = session
        self.application_id = application_id
        self.api_key = api_key

    async def call(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """`path` without `/api/v1`; `body` as JSON. `options` go to aiohttp (`params`, `data`)."""
        sent = {"X-API-Key": self.api_key, **(headers or {})}
        if body is not None:
            options["data"] = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, f"/api/v1{path}", headers=sent, **options) as response:
            assert response.headers["X-Request-Id"]
            return Answer(response.status, response.headers, await response.json() if response.content_length else {})

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.call("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.call("POST", path, body, **options)


class Whole:
    """The running platform."""

    def __init__(self, session: aiohttp.ClientSession, bus: Bus, database: Database, ring_file: Path) -> None:
        self.session = session
        self.bus = bus
        self.database = database
        self.ring_file = ring_file

    async def tenant(self, *, tier: rpc.Tier = "unlimited", scopes: list[str] | None = None) -> Tenant:
        """A fresh application with a key of its own."""
        made = rpc.CreateApplication(new_id(), "Test", tier)
        await self.bus.call("application", "create_application", made, rpc.ApplicationCreated)
        return await self.with_key(made.application_id, scopes or ALL_SCOPES)

    async def with_key(self, application_id: str, scopes: list[str]) -> Tenant:
        """The same application, asked with another key."""
        wanted = rpc.CreateKey(application_id, "test", scopes)
        key = await self.bus.call("application", "create_key", wanted, rpc.KeyCreated)
        return Tenant(self.session, application_id, key.api_key)
