"""The sandbox's FCM and its token endpoint refuse what Google refuses, with Google's error bodies."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import jwt
import pytest

from services.sandbox.credentials import make_fcm_credential
from tests.contract.sandbox_server import PROJECT, SandboxServer, running_sandbox, token_form

SEND = f"/v1/projects/{PROJECT}/messages:send"
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    with running_sandbox(tmp_path_factory.mktemp("fcm")) as server:
        yield server


@pytest.fixture
async def client(sandbox: SandboxServer) -> AsyncIterator[httpx.AsyncClient]:
    async with sandbox.client() as client:
        client.headers["authorization"] = f"Bearer {await sandbox.access_token(client)}"
        yield client


def details(answer: httpx.Response) -> dict[str, Any]:
    return {entry["@type"]: entry for entry in answer.json()["error"].get("details", [])}


@pytest.mark.parametrize(
    "message",
    [
        {"token": "a-token"},
        {"fid": "a-fid"},
        {"topic": "news"},
        {"condition": "'a' in topics"},
        {"token": "t", "data": {"k": "v"}, "notification": {"title": "a", "body": "b", "image": "c"}},
        {"token": "t", "android": {"ttl": "0s", "priority": "high", "notification": {"tag": "x", "color": "#00ff00"}}},
        {"token": "t", "android": {"ttl": "2419200s", "collapse_key": "c", "data": {"a": "b"}}},
        {"token": "t", "apns": {"headers": {"apns-priority": "5"}, "payload": {"aps": {"badge": 1}}}},
        {"token": "t", "webpush": {"headers": {"TTL": "5"}, "fcm_options": {"link": "https://example.com"}}},
        {"token": "t", "fcm_options": {"analytics_label": "a-b_c.d~e%f"}},
        {"token": "t", "data": {"k": "x" * 4095}},
    ],
)
async def test_accepts_good_messages(client: httpx.AsyncClient, message: dict[str, Any]) -> None:
    answer = await client.post(SEND, json={"message": message})
    assert answer.status_code == 200, answer.text
    assert answer.json()["name"].startswith(f"projects/{PROJECT}/messages/")
    assert list(answer.json()) == ["name"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({}, "message"),
        ({"token": "t", "topic": "x"}, "message"),
        ({"token": "t", "data": {"from": "x"}}, "message.data[from]"),
        ({"token": "t", "data": {"gcm": "x"}}, "message.data[gcm]"),
        ({"token": "t", "data": {"google.x": "x"}}, "message.data[google.x]"),
        ({"token": "t", "android": {"data": {"from": "x"}}}, "message.android.data[from]"),
        ({"token": "t", "android": {"ttl": "2419201s"}}, "message.android.ttl"),
        ({"token": "t", "android": {"notification": {"color": "red"}}}, "message.android.notification.color"),
        ({"token": "t", "webpush": {"fcm_options": {"link": "http://x"}}}, "message.webpush.fcm_options.link"),
        ({"token": "t", "fcm_options": {"analytics_label": "a b"}}, "message.fcm_options.analytics_label"),
        ({"topic": "a b"}, "message.topic"),
        ({"token": "t", "data": {"k": "x" * 4096}}, "message"),
        ({"topic": "t", "data": {"k": "x" * 2048}}, "message"),
    ],
)
async def test_refuses_what_fcm_refuses(client: httpx.AsyncClient, message: dict[str, Any], field: str) -> None:
    answer = await client.post(SEND, json={"message": message})
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert details(answer)[FCM_ERROR]["errorCode"] == "INVALID_ARGUMENT"
    assert details(answer)[BAD_REQUEST]["fieldViolations"][0]["field"] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"message":{"token":"t","color":"x"}}', "message"),
        (b'{"message":{"token":"t"},"more":1}', ""),
        (b'{"message":{"token":"t","android":{"ttl":"1h"}}}', "message.android.ttl"),
        (b'{"message":{"token":"t","android":{"priority":"urgent"}}}', "message.android.priority"),
        (b'{"message":{"token":"t","data":{"a":1}}}', "message.data[...]"),
        (b'{"message":{"token":5}}', "message.token"),
        (b'{"message":', ""),
        (b"", ""),
        (b"{}", ""),
        (b'{"message":{"token":"t","data":{"a":"\xff"}}}', ""),
    ],
)
async def test_refuses_what_googles_json_reader_refuses(client: httpx.AsyncClient, body: bytes, field: str) -> None:
    answer = await client.post(SEND, content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 400)
    assert FCM_ERROR not in details(answer)
    assert details(answer)[BAD_REQUEST]["fieldViolations"][0]["field"] == field


@pytest.mark.parametrize(
    ("token", "status", "name", "code"),
    [
        ("unregistered-1", 404, "NOT_FOUND", "UNREGISTERED"),
        ("mismatch-1", 403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"),
        ("invalid-1", 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("not a token", 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ("", 400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    ],
)
async def test_bad_registration_tokens(
    client: httpx.AsyncClient, token: str, status: int, name: str, code: str
) -> None:
    answer = await client.post(SEND, json={"message": {"token": token}})
    assert (answer.status_code, answer.json()["error"]["status"]) == (status, name)
    assert details(answer) == {FCM_ERROR: {"@type": FCM_ERROR, "errorCode": code}}


async def test_validate_only_delivers_nothing(sandbox: SandboxServer, client: httpx.AsyncClient) -> None:
    message = {"token": "dry", "data": {"automata_message_id": "dry-run"}}
    assert (await client.post(SEND, json={"message": message, "validate_only": True})).status_code == 200
    async with sandbox.ask() as ask:
        assert (await ask.get("/v1/deliveries", params={"message_id": "dry-run"})).json() == []


@pytest.mark.parametrize(
    ("authorization", "path", "status", "name"),
    [
        ("", SEND, 401, "UNAUTHENTICATED"),
        ("Bearer ya29.nonsense", SEND, 401, "UNAUTHENTICATED"),
        (None, "/v1/projects/other/messages:send", 403, "PERMISSION_DENIED"),
        (None, f"/v1/projects/{PROJECT}/messages", 404, "NOT_FOUND"),
    ],
)
async def test_the_front_door(
    client: httpx.AsyncClient, authorization: str | None, path: str, status: int, name: str
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    answer = await client.post(path, json={"message": {"token": "t"}}, headers=headers)
    assert (answer.status_code, answer.json()["error"]["status"]) == (status, name)
    assert details(answer) == {}


async def test_the_token_endpoint_issues_a_token_that_works_by_http1_too(sandbox: SandboxServer) -> None:
    async with sandbox.client(http2=False) as client:
        answer = await client.post("/token", data=token_form(sandbox.assertion()))
        assert {**answer.json(), "access_token": "…"} == {
            "access_token": "…",
            "expires_in": 3599,
            "token_type": "Bearer",
        }
        headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
        sent = await client.post(SEND, json={"message": {"token": "t"}}, headers=headers)
    assert sent.status_code == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"aud": "https://elsewhere.example/token"}, "invalid_grant"),
        ({"iss": "nobody@example.com"}, "invalid_grant"),
        ({"exp": time.time() - 10}, "invalid_grant"),
        ({"exp": time.time() + 9000}, "invalid_grant"),
        ({"iat": time.time() + 900}, "invalid_grant"),
        ({"exp": "soon"}, "invalid_grant"),
        ({"scope": "https://www.googleapis.com/auth/drive"}, "invalid_scope"),
    ],
)
async def test_the_token_endpoint_refuses(sandbox: SandboxServer, changes: dict[str, Any], error: str) -> None:
    async with sandbox.client() as client:
        answer = await client.post("/token", data=token_form(sandbox.assertion(**changes)))
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_the_token_endpoint_takes_the_audience_that_google_auth_writes(sandbox: SandboxServer) -> None:
    assertion = sandbox.assertion(aud="https://oauth2.googleapis.com/token")
    async with sandbox.client() as client:
        assert (await client.post("/token", data=token_form(assertion))).status_code == 200


async def test_the_token_endpoint_refuses_other_grants_and_forgeries(sandbox: SandboxServer) -> None:
    forger, _ = make_fcm_credential(PROJECT, sandbox.account["token_uri"])
    claims = jwt.decode(sandbox.assertion(), options={"verify_signature": False})
    forged = jwt.encode(claims, forger["private_key"], "RS256")
    async with sandbox.client() as client:
        assert (await client.post("/token", data=token_form(forged))).json()["error"] == "invalid_grant"
        assert (await client.post("/token", data=token_form("x"))).json()["error"] == "invalid_grant"
        other = await client.post("/token", data={"grant_type": "password"})
        assert other.json()["error"] == "unsupported_grant_type"
        assert (await client.get("/token")).status_code == 405
        assert (await client.get("/elsewhere")).status_code == 404
