"""A worker of the hand-written stack: `python -m tests.bench.baseline_worker JOB_FILE`.

Takes one job at a time with SKIP LOCKED, calls the provider's library, writes down what came of it.
"""

import asyncio
import ssl
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aioapns
import asyncpg
import firebase_admin  # type: ignore[import-untyped, unused-ignore]
import msgspec
from aioapns.connection import APNsProductionClientProtocol
from firebase_admin import credentials, messaging
from google.oauth2 import service_account
from uuid_utils.compat import uuid7

from tests.bench.provider import Provider

READY = b"ready"
IDLE_SECONDS = 0.01
"""Between two looks at an empty queue."""

_CLAIM = """
UPDATE messages SET status = 'processing', started_at = now()
WHERE id = (SELECT id FROM messages WHERE status = 'pending' ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1)
RETURNING id, message_id, channel, token, title, body
"""
_SENT = "UPDATE messages SET status = 'sent', sent_at = now() WHERE id = $1"
_FAILED = "UPDATE messages SET status = 'failed', error = $2 WHERE id = $1"
_EVENT = "INSERT INTO message_events (message_id, kind, detail) VALUES ($1, $2, $3)"


Row = asyncpg.Record | Mapping[str, Any]


class Job(msgspec.Struct, frozen=True):
    dsn: str
    provider: Provider
    workers: int


class Refused(Exception):
    """The provider did not accept the message."""


class Providers:
    """aioapns and firebase-admin, pointed at the sandbox."""

    def __init__(self, provider: Provider) -> None:
        apns = provider.apns
        self._apns = aioapns.APNs(
            key=apns["private_key_pem"],
            key_id=apns["key_id"],
            team_id=apns["team_id"],
            topic=apns["topic"],
            ssl_context=ssl.create_default_context(cafile=provider.ca_file),
        )
        self._apns.pool.protocol_class = type(
            "Sandbox", (APNsProductionClientProtocol,), {"APNS_SERVER": "127.0.0.1", "APNS_PORT": provider.tls_port}
        )
        firebase_admin.initialize_app(credentials.Certificate(provider.fcm))
        endpoint = f"https://127.0.0.1:{provider.tls_port}"
        messaging._MessagingService.FCM_URL = f"{endpoint}/v1/projects/{{0}}/messages:send"
        # google-auth signs for Google's own endpoint, whatever the service account's token_uri says.
        service_account._GOOGLE_OAUTH2_TOKEN_ENDPOINT = f"{endpoint}/token"

    async def warm_up(self) -> None:
        """Open connections and fetch tokens before the clock starts."""
        text = {"title": "warm", "body": "up", "message_id": uuid7()}
        await self.send({**text, "channel": "ios", "token": "a" * 64})
        await self.send({**text, "channel": "android", "token": "bench-warm-up"})

    async def send(self, job: Row) -> None:
        """Raises `Refused`."""
        await (self._to_apple(job) if job["channel"] == "ios" else self._to_google(job))

    async def _to_apple(self, job: Row) -> None:
        request = aioapns.NotificationRequest(
            device_token=job["token"],
            message={"aps": {"alert": {"title": job["title"], "body": job["body"]}, "sound": "default"}},
            notification_id=str(job["message_id"]),
            time_to_live=86_400,
            push_type=aioapns.PushType.ALERT,
        )
        result = await self._apns.send_notification(request)
        if not result.is_successful:
            raise Refused(result.description)

    async def _to_google(self, job: Row) -> None:
        message = messaging.Message(
            token=job["token"],
            notification=messaging.Notification(title=job["title"], body=job["body"]),
            data={"message_id": str(job["message_id"])},
            android=messaging.AndroidConfig(priority="high", ttl=86_400),
        )
        result = await messaging.send_each_async([message])
        if result.failure_count:
            raise Refused(str(result.responses[0].exception))


async def work(pool: "asyncpg.Pool[asyncpg.Record]", providers: Providers) -> None:
    """One job after the other, until the process is told to end."""
    async with pool.acquire() as connection:
        while True:
            job = await connection.fetchrow(_CLAIM)
            if job is None:
                await asyncio.sleep(IDLE_SECONDS)
                continue
            await _deliver(connection, providers, job)


async def _deliver(connection: Any, providers: Providers, job: asyncpg.Record) -> None:
    try:
        await providers.send(job)
    except Refused as refused:
        async with connection.transaction():
            await connection.execute(_FAILED, job["id"], str(refused))
            await connection.execute(_EVENT, job["message_id"], "failed", str(refused))
        return
    async with connection.transaction():
        await connection.execute(_SENT, job["id"])
        await connection.execute(_EVENT, job["message_id"], "sent", None)


async def main(job: Job) -> None:
    providers = Providers(job.provider)
    await providers.warm_up()
    async with asyncpg.create_pool(job.dsn, min_size=job.workers, max_size=job.workers) as pool:
        print(READY.decode(), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        async with asyncio.TaskGroup() as group:
            for _ in range(job.workers):
                group.create_task(work(pool, providers))


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)))
