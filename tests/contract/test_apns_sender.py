"""The APNs sender against a server that behaves, and misbehaves, as Apple's."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from libs.clock import FakeClock
from libs.envelope import Delivery
from services.senders.apns import ApnsSender
from services.senders.contract import Accepted, Rejected, TryLater
from tests.contract.h2_server import Answer, Connection, H2Server, Request
from tests.push_samples import (
    MESSAGE_ID,
    REGISTERED_AT_MS,
    RICH,
    SILENT,
    TOPIC,
    apple_credential,
    apple_key,
    delivery,
    pem,
)

APPLICATION = "0199b2d0-7b5c-7000-8000-0000000000cc"
CREDENTIAL = apple_credential()


class Rig:
    """One sender, with a production and a development server."""

    def __init__(self, production: H2Server, development: H2Server, clock: FakeClock) -> None:
        self.production = production
        self.development = development
        self.clock = clock
        self.sender = ApnsSender(production.url, development.url, str(production.ca_file), 1, 2.0, clock)

    async def send(self, sample: Delivery | None = None, application_id: str = APPLICATION) -> object:
        return await self.sender.send(sample or delivery(), CREDENTIAL, application_id)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    clock = FakeClock()
    first = H2Server(lambda _: Answer(), tmp_path)
    second = H2Server(lambda _: Answer(), tmp_path, tls=first.tls)
    async with first as production, second as development:
        rig = Rig(production, development, clock)
        yield rig
        await rig.sender.close()


def apple(status: int, reason: str, **more: object) -> Answer:
    return Answer(status, json.dumps({"reason": reason, **more}).encode())


async def test_a_delivery_arrives_with_every_header(rig: Rig) -> None:
    rig.production.handler = lambda request: Answer(headers={"apns-id": request.headers["apns-id"]})
    assert await rig.send(delivery(RICH)) == Accepted(MESSAGE_ID)
    [request] = rig.production.requests
    headers = {name: value for name, value in request.headers.items() if not name.startswith(":")}
    token = headers.pop("authorization").removeprefix("bearer ")
    assert request.path == "/3/device/" + "a1" * 32
    assert (
        headers.items()
        >= {
            "apns-id": MESSAGE_ID,
            "apns-topic": TOPIC,
            "apns-push-type": "alert",
            "apns-priority": "10",
            "apns-expiration": str(int(rig.clock.now) + 3600),
            "apns-collapse-id": "order-12345",
        }.items()
    )
    assert json.loads(request.body)["automata_message_id"] == MESSAGE_ID
    claims = jwt.decode(token, apple_key().public_key(), algorithms=["ES256"], options={"verify_iat": False})
    assert claims["iss"] == "TEAM123456"
    assert jwt.get_unverified_header(token)["kid"] == "KEY1234567"


async def test_a_silent_push_is_of_background_type(rig: Rig) -> None:
    await rig.send(delivery(SILENT))
    [request] = rig.production.requests
    assert (request.headers["apns-push-type"], request.headers["apns-priority"]) == ("background", "5")


async def test_a_test_device_is_reached_at_the_development_endpoint(rig: Rig) -> None:
    await rig.send(delivery(test=True))
    assert (len(rig.production.requests), len(rig.development.requests)) == (0, 1)


async def test_a_token_cannot_change_the_path(rig: Rig) -> None:
    await rig.send(delivery(token="../../secret?x"))
    assert rig.production.requests[0].path == "/3/device/..%2F..%2Fsecret%3Fx"


async def test_410_follows_the_timestamp_rule(rig: Rig) -> None:
    rig.production.handler = lambda _: apple(410, "Unregistered", timestamp=REGISTERED_AT_MS + 1)
    gone = await rig.send()
    assert isinstance(gone, Rejected)
    assert gone.subscription_status == -10
    rig.production.handler = lambda _: apple(410, "Unregistered", timestamp=REGISTERED_AT_MS - 1)
    kept = await rig.send()
    assert isinstance(kept, Rejected)
    assert (kept.subscription_status, kept.data["address"]) == (None, "kept")


async def test_an_expired_provider_token_is_renewed_and_the_push_sent_once_more(rig: Rig) -> None:
    await rig.send()
    expired = rig.production.requests[0].headers["authorization"]
    rig.clock.advance(1500)

    def refuse_expired(request: Request) -> Answer:
        return apple(403, "ExpiredProviderToken") if request.headers["authorization"] == expired else Answer()

    rig.production.handler = refuse_expired
    assert await asyncio.gather(*(rig.send() for _ in range(5))) == [Accepted(MESSAGE_ID)] * 5
    tokens = {request.headers["authorization"] for request in rig.production.requests}
    assert len(tokens) == 2


async def test_a_young_token_called_expired_is_our_credentials_fault(rig: Rig) -> None:
    rig.clock.now = 1_767_225_600.0 + 600
    rig.production.handler = lambda _: apple(403, "ExpiredProviderToken")
    assert await rig.send() == TryLater(
        "ExpiredProviderToken", "credentials", data={"status": 403, "endpoint": "production"}
    )
    assert len(rig.production.requests) == 1


async def test_tenants_never_share_a_connection(rig: Rig) -> None:
    await asyncio.gather(*(rig.send(application_id=name) for name in ("one", "two") for _ in range(3)))
    assert len(rig.production.connections) == 2


async def test_another_key_of_the_team_gets_its_own_connection_and_token(rig: Rig) -> None:
    await rig.send()
    other = apple_credential(key_id="KEY7654321", private_key_pem=pem(ec.generate_private_key(ec.SECP256R1())))
    await rig.sender.send(delivery(), other, APPLICATION)
    assert len(rig.production.connections) == 2
    tokens = [request.headers["authorization"] for request in rig.production.requests]
    assert jwt.get_unverified_header(tokens[1].removeprefix("bearer "))["kid"] == "KEY7654321"


async def test_a_reloaded_credential_keeps_token_and_connection(rig: Rig) -> None:
    await rig.sender.send(delivery(), apple_credential(), APPLICATION)
    await rig.sender.send(delivery(), apple_credential(), APPLICATION)
    first, second = rig.production.requests
    assert first.headers["authorization"] == second.headers["authorization"]
    assert len(rig.production.connections) == 1


async def test_another_topic_keeps_the_provider_token(rig: Rig) -> None:
    """Apple counts new tokens per team."""
    await rig.send()
    await rig.sender.send(delivery(), apple_credential(topic="com.example.other"), APPLICATION)
    first, second = rig.production.requests
    assert first.headers["authorization"] == second.headers["authorization"]
    assert second.headers["apns-topic"] == "com.example.other"


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        ({"private_key_pem": "no key"}, "malformed_private_key"),
        ({"private_key_pem": 7}, "malformed_credential"),
        ({"topic": "com.example\r\nx: y"}, "malformed_topic"),
        ({"topic": ""}, "malformed_topic"),
    ],
)
async def test_a_malformed_credential_is_a_result_not_an_error(
    rig: Rig, secret: dict[str, object], reason: str
) -> None:
    result = await rig.sender.send(delivery(), apple_credential(**secret), APPLICATION)
    assert result == TryLater(reason, "credentials")
    assert not rig.production.requests


async def test_no_answer_is_an_unknown_outcome(rig: Rig) -> None:
    rig.production.handler = lambda _: None
    assert await rig.send() == TryLater("timeout", "network", unknown=True)


async def test_a_lost_connection_is_an_unknown_outcome(rig: Rig) -> None:
    def cut(request: Request) -> None:
        request.connection.reset()

    rig.production.handler = cut
    assert await rig.send() == TryLater("connection_lost", "network", unknown=True)


async def test_no_connection_is_a_known_outcome(rig: Rig) -> None:
    await rig.production.stop()
    assert await rig.send() == TryLater("connect_error", "network")


async def test_a_provider_that_shuts_down_gets_a_new_connection(rig: Rig) -> None:
    rig.production.handler = lambda _: apple(503, "Shutdown")
    assert await rig.send() == TryLater("Shutdown", "outage", data={"status": 503, "endpoint": "production"})
    rig.production.handler = lambda _: Answer()
    assert await rig.send() == Accepted(MESSAGE_ID)
    assert len(rig.production.connections) == 2


def test_a_url_without_tls_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="https"):
        ApnsSender("http://api.push.apple.com", "https://api.sandbox.push.apple.com", None, 1, 1.0, FakeClock())


async def test_retry_after_is_kept(rig: Rig) -> None:
    rig.production.handler = lambda _: Answer(503, b'{"reason":"ServiceUnavailable"}', {"retry-after": "17"})
    assert await rig.send() == TryLater(
        "ServiceUnavailable", "outage", 17.0, data={"status": 503, "endpoint": "production"}
    )


async def test_a_burst_waits_for_the_first_valid_request_as_apple_demands(rig: Rig) -> None:
    """One stream until the provider token was accepted; a refused push proves the token as well."""
    before: list[int] = []

    def gate(request: Request) -> Answer:
        before.append(len(request.connection.open))
        widen(request.connection)
        return apple(400, "BadDeviceToken")

    def widen(connection: Connection) -> None:
        connection.limit_streams(1000)

    rig.production.max_streams = 1
    rig.production.handler = gate
    results = await asyncio.gather(*(rig.send() for _ in range(50)))
    assert results == [Rejected("BadDeviceToken", -10, {"status": 400, "endpoint": "production"})] * 50
    assert before[0] == 1
    assert sum(connection.refused for connection in rig.production.connections) == 0


async def test_one_tenants_hanging_connection_holds_up_nobody_else(rig: Rig) -> None:
    def ignore_one(request: Request) -> Answer | None:
        return None if request.headers["apns-topic"] == "com.example.stuck" else Answer()

    rig.production.handler = ignore_one
    stuck = asyncio.create_task(rig.sender.send(delivery(), apple_credential(topic="com.example.stuck"), "stuck"))
    assert await asyncio.gather(*(rig.send() for _ in range(20))) == [Accepted(MESSAGE_ID)] * 20
    assert not stuck.done()
    assert await stuck == TryLater("timeout", "network", unknown=True)
