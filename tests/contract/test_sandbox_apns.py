"""The sandbox's APNs refuses what Apple refuses, with Apple's words."""

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest

from services.sandbox.apns import STATUS
from services.sandbox.credentials import make_apns_credential
from tests.contract.sandbox_server import DEVICE, TEAM, TOPIC, SandboxServer, running_sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    with running_sandbox(tmp_path_factory.mktemp("apns")) as server:
        yield server


async def push(
    sandbox: SandboxServer,
    headers: dict[str, str] | None = None,
    *,
    device: str = DEVICE,
    body: Any = None,
    method: str = "POST",
) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body or {"aps": {"alert": "hello"}}).encode()
    async with sandbox.client() as client:
        return await client.request(
            method, f"/3/device/{device}", headers=headers or sandbox.apns_headers(), content=content
        )


async def test_accepts_a_good_request_and_echoes_its_id(sandbox: SandboxServer) -> None:
    name = str(uuid.uuid4())
    answer = await push(sandbox, sandbox.apns_headers(apns_id=name, apns_priority="5", apns_expiration="0"))
    assert (answer.status_code, answer.http_version, answer.content) == (200, "HTTP/2", b"")
    assert answer.headers["apns-id"] == name


async def test_makes_an_id_when_none_is_given(sandbox: SandboxServer) -> None:
    answer = await push(sandbox)
    assert uuid.UUID(answer.headers["apns-id"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"authorization": None}, "MissingProviderToken"),
        ({"authorization": "bearer nonsense"}, "InvalidProviderToken"),
        ({"authorization": "basic abc"}, "InvalidProviderToken"),
        ({"apns_topic": None}, "MissingTopic"),
        ({"apns_topic": "com example"}, "BadTopic"),
        ({"apns_topic": "com.other.app"}, "TopicDisallowed"),
        ({"apns_topic": f"{TOPIC}.voip"}, "TopicDisallowed"),
        ({"apns_push_type": "voip"}, "TopicDisallowed"),
        ({"apns_push_type": None}, "InvalidPushType"),
        ({"apns_push_type": "loud"}, "InvalidPushType"),
        ({"apns_push_type": "background"}, "BadPriority"),
        ({"apns_push_type": "background", "apns_priority": "10"}, "BadPriority"),
        ({"apns_priority": "7"}, "BadPriority"),
        ({"apns_expiration": "tomorrow"}, "BadExpirationDate"),
        ({"apns_expiration": "-1"}, "BadExpirationDate"),
        ({"apns_id": str(uuid.uuid4()).upper()}, "BadMessageId"),
        ({"apns_id": "12"}, "BadMessageId"),
        ({"apns_collapse_id": "x" * 65}, "BadCollapseId"),
        ({"apns_collapse_id": ""}, "BadCollapseId"),
    ],
)
async def test_refuses_bad_headers(sandbox: SandboxServer, changes: dict[str, str | None], reason: str) -> None:
    answer = await push(sandbox, sandbox.apns_headers(**changes))
    assert (answer.status_code, answer.json()) == (STATUS[reason], {"reason": reason})
    assert uuid.UUID(answer.headers["apns-id"])


@pytest.mark.parametrize(
    "changes",
    [
        {"apns_push_type": "background", "apns_priority": "5"},
        {"apns_push_type": "voip", "apns_topic": f"{TOPIC}.voip"},
        {"apns_push_type": "liveactivity", "apns_topic": f"{TOPIC}.push-type.liveactivity"},
        {"apns_collapse_id": "x" * 64},
        {"apns_expiration": "1999999999"},
    ],
)
async def test_accepts_other_kinds(sandbox: SandboxServer, changes: dict[str, str | None]) -> None:
    assert (await push(sandbox, sandbox.apns_headers(**changes))).status_code == 200


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ("", "MissingDeviceToken"),
        ("xyz", "BadDeviceToken"),
        ("ab" * 31, "BadDeviceToken"),
        ("ab" * 101, "BadDeviceToken"),
        ("ab" * 32 + "a", "BadDeviceToken"),
        ("0bad" + "ab" * 30, "BadDeviceToken"),
        ("a/b", "BadPath"),
    ],
)
async def test_refuses_bad_device_tokens(sandbox: SandboxServer, device: str, reason: str) -> None:
    answer = await push(sandbox, device=device)
    assert (answer.status_code, answer.json()) == (STATUS[reason], {"reason": reason})


async def test_a_dead_token_is_unregistered_since_now(sandbox: SandboxServer) -> None:
    before = int(time.time() * 1000)
    answer = await push(sandbox, device="dead" + "ab" * 30)
    assert (answer.status_code, answer.json()["reason"]) == (410, "Unregistered")
    assert before <= answer.json()["timestamp"] <= time.time() * 1000


def sized(size: int) -> bytes:
    return b'{"aps":{"alert":"%b"}}' % (b"x" * (size - 20))


@pytest.mark.parametrize(
    ("body", "push_type", "reason"),
    [
        (sized(4096), "alert", None),
        (sized(4097), "alert", "PayloadTooLarge"),
        (sized(5120), "voip", None),
        (sized(5121), "voip", "PayloadTooLarge"),
        (sized(2 * 1024 * 1024), "alert", "PayloadTooLarge"),
        (b"", "alert", "PayloadEmpty"),
        (b"{}", "alert", "PayloadEmpty"),
        (b'{"aps":"x"}', "alert", "PayloadEmpty"),
        (b'{"aps":{}', "alert", "PayloadEmpty"),
        (b'{"aps":{},"x":"\xff"}', "alert", "PayloadEmpty"),
        (b"[1]", "alert", "PayloadEmpty"),
    ],
)
async def test_judges_the_payload(sandbox: SandboxServer, body: bytes, push_type: str, reason: str | None) -> None:
    topic = f"{TOPIC}.voip" if push_type == "voip" else TOPIC
    answer = await push(sandbox, sandbox.apns_headers(apns_push_type=push_type, apns_topic=topic), body=body)
    assert answer.status_code == (200 if reason is None else STATUS[reason])
    assert reason is None or answer.json() == {"reason": reason}


async def test_other_methods_and_http1_are_refused(sandbox: SandboxServer) -> None:
    answer = await push(sandbox, method="PUT")
    assert (answer.status_code, answer.json()) == (405, {"reason": "MethodNotAllowed"})
    async with sandbox.client(http2=False) as client:
        old = await client.post(f"/3/device/{DEVICE}", headers=sandbox.apns_headers(), json={"aps": {}})
    assert old.status_code == 505


@pytest.mark.parametrize(
    ("age", "claims", "reason"),
    [
        (3500, {}, None),
        (3700, {}, "ExpiredProviderToken"),
        (-240, {}, None),
        (-400, {}, "InvalidProviderToken"),
        (0, {"iss": "OTHERTEAM1"}, "InvalidProviderToken"),
        (0, {"iat": "now"}, "InvalidProviderToken"),
    ],
)
async def test_judges_the_provider_token(
    sandbox: SandboxServer, age: float, claims: dict[str, Any], reason: str | None
) -> None:
    token = sandbox.provider_token(age=age, **claims)
    answer = await push(sandbox, sandbox.apns_headers(authorization=f"bearer {token}"))
    assert answer.status_code == (403 if reason else 200)
    assert reason is None or answer.json() == {"reason": reason}


async def test_refuses_a_forged_signature(sandbox: SandboxServer) -> None:
    forger, _ = make_apns_credential(TEAM, TOPIC)
    key_id = sandbox.apns["key_id"]
    claims = {"iss": TEAM, "iat": int(time.time())}
    forged = jwt.encode(claims, forger["private_key_pem"], "ES256", headers={"kid": key_id})
    answer = await push(sandbox, sandbox.apns_headers(authorization=f"bearer {forged}"))
    assert answer.json() == {"reason": "InvalidProviderToken"}


async def test_a_team_added_live_is_known_and_needs_its_own_connection(sandbox: SandboxServer) -> None:
    other, tenant = make_apns_credential("TEAM999999", "com.example.other")
    sandbox.tenants["apns"].append(tenant)
    sandbox.write_tenants()
    token = jwt.encode(
        {"iss": "TEAM999999", "iat": int(time.time())},
        other["private_key_pem"],
        "ES256",
        headers={"kid": other["key_id"]},
    )
    headers = sandbox.apns_headers(authorization=f"bearer {token}", apns_topic="com.example.other")
    assert (await push(sandbox, headers)).status_code == 200
    async with sandbox.client() as client:
        path = f"/3/device/{DEVICE}"
        assert (await client.post(path, headers=headers, json={"aps": {}})).status_code == 200
        mixed = await client.post(path, headers=sandbox.apns_headers(), json={"aps": {}})
    assert (mixed.status_code, mixed.json()) == (403, {"reason": "InvalidProviderToken"})
