"""Each fault rule of the sandbox does on the wire what it says."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from services.sandbox.faults import MAX_RULES
from tests.contract.raw_http2 import BODY, RawClient
from tests.contract.sandbox_server import DEVICE, PROJECT, SandboxServer, running_sandbox

SEND = f"/v1/projects/{PROJECT}/messages:send"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    with running_sandbox(tmp_path_factory.mktemp("faults")) as server:
        yield server


@pytest.fixture
async def ask(sandbox: SandboxServer) -> AsyncIterator[httpx.AsyncClient]:
    async with sandbox.ask() as client:
        await client.delete("/v1/deliveries")
        yield client
        assert (await client.delete("/v1/faults")).status_code == 204


async def put(ask: httpx.AsyncClient, *rules: dict[str, Any]) -> None:
    answer = await ask.put("/v1/faults", json=rules)
    assert answer.status_code == 200, answer.text


async def push(client: httpx.AsyncClient, sandbox: SandboxServer, device: str = DEVICE) -> httpx.Response:
    return await client.post(f"/3/device/{device}", headers=sandbox.apns_headers(), content=BODY)


async def recorded(ask: httpx.AsyncClient, end: str) -> None:
    """Return when a request has come to this `end`."""
    while end not in (await ask.get("/v1/stats")).json()["apns"]["unanswered"]:
        continue


@pytest.mark.parametrize(
    ("rule", "status", "body"),
    [
        ({"status": 503}, 503, {"reason": "ServiceUnavailable"}),
        ({"reason": "TooManyRequests"}, 429, {"reason": "TooManyRequests"}),
        ({"status": 400, "reason": "BadTopic"}, 400, {"reason": "BadTopic"}),
        ({"status": 418}, 418, {"reason": "InternalServerError"}),
        ({"reason": "Unregistered", "timestamp": 5}, 410, {"reason": "Unregistered", "timestamp": 5}),
        ({"status": 599, "reason": "Anything"}, 599, {"reason": "Anything"}),
    ],
)
async def test_apns_says_what_the_rule_says(
    sandbox: SandboxServer, ask: httpx.AsyncClient, rule: dict[str, Any], status: int, body: dict[str, Any]
) -> None:
    await put(ask, {"provider": "apns", **rule})
    async with sandbox.client() as client:
        answer = await push(client, sandbox)
    assert (answer.status_code, answer.json()) == (status, body)


@pytest.mark.parametrize(
    ("rule", "status", "name", "code"),
    [
        ({"status": 503}, 503, "UNAVAILABLE", "UNAVAILABLE"),
        ({"status": 429}, 429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
        ({"reason": "THIRD_PARTY_AUTH_ERROR"}, 401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"),
        ({"reason": "PERMISSION_DENIED"}, 403, "PERMISSION_DENIED", None),
        ({"status": 404, "reason": "NOT_FOUND"}, 404, "NOT_FOUND", None),
    ],
)
async def test_fcm_says_what_the_rule_says(
    sandbox: SandboxServer, ask: httpx.AsyncClient, rule: dict[str, Any], status: int, name: str, code: str | None
) -> None:
    await put(ask, {"provider": "fcm", "retry_after": 7, **rule})
    async with sandbox.client() as client:
        headers = {"authorization": f"Bearer {await sandbox.access_token(client)}"}
        answer = await client.post(SEND, json={"message": {"token": "t"}}, headers=headers)
    error = answer.json()["error"]
    codes = [entry["errorCode"] for entry in error.get("details", [])]
    assert (answer.status_code, error["status"], codes) == (status, name, [code] if code else [])
    assert answer.headers["retry-after"] == "7"


async def test_the_token_endpoint_can_fail_too(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await put(ask, {"provider": "oauth", "status": 503, "reason": "unavailable"})
    async with sandbox.client() as client:
        answer = await client.post("/token", data={"grant_type": "x"})
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")


async def test_a_rule_is_for_its_tokens_and_spent_after_its_count(
    sandbox: SandboxServer, ask: httpx.AsyncClient
) -> None:
    await put(ask, {"provider": "apns", "token_prefix": "abab", "status": 500, "count": 2})
    async with sandbox.client() as client:
        assert (await push(client, sandbox, "cd" * 32)).status_code == 200
        assert [(await push(client, sandbox)).status_code for _ in range(4)] == [500, 500, 200, 200]
    assert (await ask.get("/v1/faults")).json()[0]["met"] == 2


async def test_probability_is_a_share(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await put(ask, {"probability": 0.5, "status": 500})
    async with sandbox.client() as client:
        answers = await asyncio.gather(*(push(client, sandbox) for _ in range(200)))
    failed = sum(answer.status_code == 500 for answer in answers)
    assert 60 < failed < 140


async def test_latency_delays_the_answer_and_nobody_else(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await put(ask, {"token_prefix": "abab", "latency_ms": 400})
    async with sandbox.client() as client:
        start = time.monotonic()
        slow = asyncio.create_task(push(client, sandbox))
        assert (await push(client, sandbox, "cd" * 32)).status_code == 200
        assert time.monotonic() - start < 0.4
        assert (await slow).status_code == 200
        assert time.monotonic() - start >= 0.4


@pytest.mark.parametrize("accept", [False, True])
async def test_hang_never_answers(sandbox: SandboxServer, ask: httpx.AsyncClient, accept: bool) -> None:
    await put(ask, {"provider": "apns", "hang": True, "count": 1, "accept": accept})
    async with sandbox.client() as client:
        hung = asyncio.create_task(push(client, sandbox))
        await recorded(ask, "hang")
        # Others on the same connection are answered meanwhile.
        assert (await push(client, sandbox)).status_code == 200
        assert not hung.done()
        hung.cancel()
    stats = (await ask.get("/v1/stats")).json()["apns"]
    assert (stats["requests"], stats["accepted"], stats["unanswered"]) == (2, 1 + accept, {"hang": 1})


async def test_close_cuts_the_connection_without_an_answer(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await put(ask, {"provider": "apns", "close": True, "count": 1})
    raw = await RawClient.open(sandbox)
    await raw.send(1)
    await raw.until_closed()
    await raw.close()
    assert (raw.status, raw.last_stream) == ({}, None)
    async with sandbox.client() as client:
        assert (await push(client, sandbox)).status_code == 200
    assert (await ask.get("/v1/stats")).json()["apns"]["unanswered"] == {"close": 1}


async def test_goaway_comes_with_every_nth_request_and_drains(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await put(ask, {"provider": "apns", "goaway": 5})
    raw = await RawClient.open(sandbox)
    streams = await raw.send(8)
    await raw.until_closed()
    await raw.close()
    assert raw.last_stream == streams[4]
    assert raw.status == dict.fromkeys(streams[:5], 200)
    assert (await ask.get("/v1/stats")).json()["apns"]["requests"] == 5


async def test_goaway_with_close_ends_at_once(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await put(ask, {"provider": "apns", "goaway": 3, "close": True, "count": 1})
    raw = await RawClient.open(sandbox)
    streams = await raw.send(3)
    await raw.until_closed()
    await raw.close()
    assert raw.last_stream == streams[2]
    assert raw.status == {}
    assert (await ask.get("/v1/stats")).json()["apns"]["accepted"] == 3
    again = await RawClient.open(sandbox)
    streams = await again.send(9)
    while again.ended != set(streams):
        await again.read()
    await again.close()
    assert (again.last_stream, (await ask.get("/v1/faults")).json()[0]["met"]) == (None, 1)


async def test_connections_are_sent_away_when_goaway_begins_and_when_it_ends(
    sandbox: SandboxServer, ask: httpx.AsyncClient
) -> None:
    for change in (put(ask, {"provider": "fcm", "goaway": 500}), ask.delete("/v1/faults")):
        raw = await RawClient.open(sandbox)
        (stream,) = await raw.send(1)
        while stream not in raw.ended:
            await raw.read()
        await change
        while raw.last_stream is None:
            await raw.read()
        await raw.close()
        assert raw.status == {stream: 200}


async def test_all_faults_work_while_a_goaway_rule_is_in_force(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await put(
        ask,
        {"goaway": 1000},
        {"token_prefix": "aa", "status": 503, "latency_ms": 20},
        {"token_prefix": "bb", "close": True},
        {"token_prefix": "cc", "hang": True},
    )
    async with sandbox.client() as client:
        assert (await push(client, sandbox, "aa" * 32)).json() == {"reason": "ServiceUnavailable"}
        hung = asyncio.create_task(push(client, sandbox, "cc" * 32))
        assert (await push(client, sandbox, "dd" * 32)).status_code == 200
        with pytest.raises(httpx.TransportError):
            await push(client, sandbox, "bb" * 32)
        with pytest.raises(httpx.TransportError):
            await hung
    async with sandbox.client(http2=False) as old:
        assert (await old.post("/token", data={"grant_type": "x"})).status_code == 400


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({}, "[0]"),
        ({"provider": "sms", "status": 500}, "[0].provider"),
        ({"status": 200}, "[0].status"),
        ({"status": "500"}, "[0].status"),
        ({"reason": "no such"}, "[0].reason"),
        ({"provider": "apns", "reason": "UNREGISTERED"}, "[0].reason"),
        ({"reason": "Unregistered"}, "[0].reason"),
        ({"latency_ms": -1}, "[0].latency_ms"),
        ({"status": 500, "probability": 2}, "[0].probability"),
        ({"status": 500, "count": 0}, "[0].count"),
        ({"status": 500, "hang": True}, "[0].hang"),
        ({"close": True, "hang": True}, "[0].hang"),
        ({"goaway": 0}, "[0].goaway"),
        ({"goaway": 5, "latency_ms": 1}, "[0].goaway"),
        ({"goaway": 5, "status": 500}, "[0].goaway"),
        ({"accept": True, "status": 500}, "[0].accept"),
        ({"hang": True, "retry_after": 5}, "[0].retry_after"),
        ({"status": 500, "more": 1}, "[0]"),
    ],
)
async def test_bad_rules_are_refused_by_name_and_change_nothing(
    ask: httpx.AsyncClient, rule: dict[str, Any], field: str
) -> None:
    await put(ask, {"status": 500, "token_prefix": "ee"})
    answer = await ask.put("/v1/faults", json=[rule])
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, field)
    assert answer.json()["error"]["message"]
    assert len((await ask.get("/v1/faults")).json()) == 1


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"\xff", json.dumps([{"status": 500}] * (MAX_RULES + 1)).encode()])
async def test_other_bad_bodies_are_refused(ask: httpx.AsyncClient, body: bytes) -> None:
    answer = await ask.put("/v1/faults", content=body)
    assert answer.status_code == 422
