"""The FCM sender against a server that behaves, and misbehaves, as Google's."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import jwt
import pytest

from libs.clock import FakeClock
from libs.envelope import Delivery
from libs.rpc import Credential
from services.senders.access_token import PAUSE_AFTER_FAILURE, REFRESH_EARLY
from services.senders.contract import Accepted, Rejected, TryLater
from services.senders.fcm import FcmSender
from tests.contract.h2_server import Answer, H2Server, Request
from tests.push_samples import RICH, delivery, google_credential, google_key

APPLICATION = "0199b2d0-7b5c-7000-8000-0000000000cc"
LIFE = 3600
SENT = Answer(200, b'{"name":"projects/demo-project/messages/1"}')
ACCEPTED = Accepted("projects/demo-project/messages/1")


class Google:
    """FCM and the OAuth token endpoint on one server; each access token is a new one."""

    def __init__(self, server: H2Server, clock: FakeClock) -> None:
        self.server = server
        self.clock = clock
        self.oauth: Answer | None = None
        """Answers the token endpoint in place of a token, if set."""
        self.fcm = SENT
        self.issued = 0
        server.handler = self.handle
        self.sender = FcmSender(server.url, str(server.ca_file), 1, 2.0, clock)

    def handle(self, request: Request) -> Answer:
        if request.path != "/token":
            return self.fcm
        if self.oauth is not None:
            return self.oauth
        self.issued += 1
        body = {"access_token": f"access-{self.issued}", "expires_in": LIFE, "token_type": "Bearer"}
        return Answer(200, json.dumps(body).encode())

    def credential(self, **changes: object) -> Credential:
        return google_credential(**{"token_uri": f"{self.server.url}/token"} | changes)

    async def send(self, sample: Delivery | None = None, application_id: str = APPLICATION) -> object:
        return await self.sender.send(sample or delivery(), self.credential(), application_id)

    def sends(self) -> list[Request]:
        return [request for request in self.server.requests if request.path != "/token"]

    def exchanges(self) -> list[Request]:
        return [request for request in self.server.requests if request.path == "/token"]


@pytest.fixture
async def google(tmp_path: Path) -> AsyncIterator[Google]:
    async with H2Server(lambda _: SENT, tmp_path) as server:
        google = Google(server, FakeClock())
        yield google
        await google.sender.close()


def fcm_error(status: int, code: str, **headers: str) -> Answer:
    detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}
    body = {"error": {"code": status, "status": "X", "message": "m", "details": [detail]}}
    return Answer(status, json.dumps(body).encode(), headers)


async def test_a_delivery_arrives_with_its_access_token(google: Google) -> None:
    assert await google.send(delivery(RICH, token="reg:token")) == ACCEPTED
    [request] = google.sends()
    assert request.path == "/v1/projects/demo-project/messages:send"
    assert request.headers["authorization"] == "Bearer access-1"
    assert request.headers["content-type"] == "application/json"
    message = json.loads(request.body)["message"]
    assert message["token"] == "reg:token"
    assert message["android"]["notification"]["tag"] == "order-12345"
    assert message["android"]["ttl"] == "3600s"


async def test_a_firebase_installation_is_addressed_as_such(google: Google) -> None:
    await google.send(delivery(token="fid-1", token_kind="fid"))
    message = json.loads(google.sends()[0].body)["message"]
    assert message["fid"] == "fid-1"
    assert "token" not in message


async def test_the_service_account_signs_for_the_messaging_scope(google: Google) -> None:
    await google.send()
    [request] = google.exchanges()
    form = parse_qs(request.body.decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    # google-auth names Google's own endpoint as the audience, whatever the service account's token_uri is.
    audience = "https://oauth2.googleapis.com/token"
    claims = jwt.decode(form["assertion"][0], google_key().public_key(), algorithms=["RS256"], audience=audience)
    assert claims["iss"] == "sender@demo-project.iam.gserviceaccount.com"
    assert claims["scope"] == "https://www.googleapis.com/auth/firebase.messaging"


async def test_one_fetch_serves_a_burst_and_its_token_serves_the_hour(google: Google) -> None:
    assert await asyncio.gather(*(google.send() for _ in range(30))) == [ACCEPTED] * 30
    google.clock.advance(LIFE - REFRESH_EARLY - 60)
    await google.send()
    assert len(google.exchanges()) == 1


async def test_a_token_is_replaced_before_it_ends_without_anybody_waiting(google: Google) -> None:
    await google.send()
    google.clock.advance(LIFE - REFRESH_EARLY + 60)
    assert await google.send() == ACCEPTED
    assert google.sends()[-1].headers["authorization"] == "Bearer access-1"
    async with asyncio.timeout(5):
        while google.sends()[-1].headers["authorization"] != "Bearer access-2":
            await google.send()
    assert len(google.exchanges()) == 2


async def test_a_failed_replacement_leaves_the_old_token_in_use(google: Google) -> None:
    await google.send()
    google.oauth = Answer(503)
    google.clock.advance(LIFE - REFRESH_EARLY + 60)
    async with asyncio.timeout(5):
        while len(google.exchanges()) < 2:
            assert await google.send() == ACCEPTED
    google.oauth = None
    async with asyncio.timeout(5):
        while google.sends()[-1].headers["authorization"] != "Bearer access-2":
            google.clock.advance(PAUSE_AFTER_FAILURE / 20)
            assert await google.send() == ACCEPTED


async def test_a_refused_access_token_is_not_used_again(google: Google) -> None:
    google.fcm = Answer(401, b'{"error":{"status":"UNAUTHENTICATED"}}')
    assert await google.send() == TryLater("UNAUTHENTICATED", "credentials", data={"status": 401})
    google.fcm = SENT
    assert await google.send() == ACCEPTED
    assert google.sends()[-1].headers["authorization"] == "Bearer access-2"


@pytest.mark.parametrize(
    ("oauth", "expected"),
    [
        (Answer(400, b'{"error":"invalid_grant","error_description":"x"}'), TryLater("oauth_refused", "credentials")),
        (Answer(401, b'{"error":"invalid_client"}'), TryLater("oauth_refused", "credentials")),
        (Answer(503, b"", {"retry-after": "9"}), TryLater("oauth_unavailable", "outage", 9.0)),
        (Answer(429, b"", {"retry-after": "9"}), TryLater("oauth_throttled", "throttled", 9.0)),
        (Answer(200, b"<html>"), TryLater("oauth_refused", "credentials")),
    ],
)
async def test_no_access_token_no_call(google: Google, oauth: Answer, expected: TryLater) -> None:
    google.oauth = oauth
    assert await asyncio.gather(*(google.send() for _ in range(3))) == [expected] * 3
    assert len(google.exchanges()) == 1
    assert not google.sends()


async def test_a_token_endpoint_out_of_reach_is_the_networks_fault(google: Google) -> None:
    await google.server.stop()
    assert await google.send() == TryLater("oauth_connect_error", "network")


@pytest.mark.parametrize(
    "uri",
    [
        "https://internal.example.com/token",
        "http://127.0.0.1/token",
        "https://oauth2.googleapis.com.example.com/",
        "nonsense",
        "https://[",
    ],
)
async def test_a_tenant_cannot_make_us_call_another_host(google: Google, uri: str) -> None:
    result = await google.sender.send(delivery(), google.credential(token_uri=uri), APPLICATION)
    assert isinstance(result, TryLater)
    assert result.retry_class == "credentials"
    assert not google.server.requests


@pytest.mark.parametrize(
    "secret", [{"private_key": "no key"}, {"type": "authorized_user"}, {"project_id": None}, {"client_email": 7}]
)
async def test_a_malformed_credential_is_a_result_not_an_error(google: Google, secret: dict[str, object]) -> None:
    result = await google.sender.send(delivery(), google.credential(**secret), APPLICATION)
    assert result == TryLater("malformed_credential", "credentials")
    assert not google.server.requests


async def test_a_project_cannot_change_the_path(google: Google) -> None:
    await google.sender.send(delivery(), google.credential(project_id="../x?y"), APPLICATION)
    assert google.sends()[0].path == "/v1/projects/..%2Fx%3Fy/messages:send"


async def test_an_unregistered_token_disables_the_address(google: Google) -> None:
    google.fcm = fcm_error(404, "UNREGISTERED")
    assert await google.send() == Rejected("UNREGISTERED", -10, {"status": 404})


async def test_a_full_quota_waits_as_long_as_google_says(google: Google) -> None:
    google.fcm = fcm_error(429, "QUOTA_EXCEEDED", **{"retry-after": "33"})
    assert await google.send() == TryLater("QUOTA_EXCEEDED", "throttled", 33.0, data={"status": 429})


async def test_an_outage_is_not_retried_here(google: Google) -> None:
    google.fcm = fcm_error(503, "UNAVAILABLE")
    assert await google.send() == TryLater("UNAVAILABLE", "outage", data={"status": 503})
    assert len(google.sends()) == 1


async def test_a_lost_connection_is_an_unknown_outcome(google: Google) -> None:
    await google.send()

    def cut(request: Request) -> None:
        request.connection.reset()

    google.server.handler = cut
    assert await google.send() == TryLater("connection_lost", "network", unknown=True)


async def test_applications_share_neither_token_nor_connection(google: Google) -> None:
    await google.send(application_id="one")
    await google.send(application_id="two")
    assert google.issued == 2
    first, second = google.sends()
    assert first.connection is not second.connection
