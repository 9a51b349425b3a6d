"""The sandbox's control API tells what arrived, to tests and to people, and keeps within its bounds."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.contract.sandbox_server import DEVICE, PROJECT, SandboxServer, running_sandbox

SEND = f"/v1/projects/{PROJECT}/messages:send"
NASTY = "<script>alert('x')</script>\"&<!-- rows -->"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    with running_sandbox(tmp_path_factory.mktemp("control")) as server:
        yield server


@pytest.fixture
async def ask(sandbox: SandboxServer) -> AsyncIterator[httpx.AsyncClient]:
    async with sandbox.ask() as client:
        assert (await client.delete("/v1/deliveries")).status_code == 204
        yield client


async def push(sandbox: SandboxServer, *messages: dict[str, Any], **headers: str | None) -> None:
    async with sandbox.client() as client:
        for message in messages:
            body = {"aps": {"alert": "hello"}, **message}
            await client.post(f"/3/device/{DEVICE}", headers=sandbox.apns_headers(**headers), json=body)


async def test_deliveries_show_what_arrived_without_the_credential(
    sandbox: SandboxServer, ask: httpx.AsyncClient
) -> None:
    await push(sandbox, {"automata_message_id": "m-1"}, apns_collapse_id="c-1")
    (found,) = (await ask.get("/v1/deliveries", params={"message_id": "m-1"})).json()
    assert (found["provider"], found["token"], found["message_id"]) == ("apns", DEVICE, "m-1")
    assert found["headers"]["apns-collapse-id"] == "c-1"
    assert found["payload"] == {"aps": {"alert": "hello"}, "automata_message_id": "m-1"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", found["received_at"])
    assert "bearer" not in json.dumps(found).lower()


async def test_deliveries_are_filtered_and_limited_to_the_newest(
    sandbox: SandboxServer, ask: httpx.AsyncClient
) -> None:
    await push(sandbox, *({"automata_message_id": f"m-{number}"} for number in range(5)))
    await push(sandbox, {"automata_message_id": "bad"}, apns_priority="3")

    async def ids(**query: str) -> list[str]:
        return [found["message_id"] for found in (await ask.get("/v1/deliveries", params=query)).json()]

    assert await ids() == [f"m-{number}" for number in range(5)]
    assert await ids(limit="2") == ["m-3", "m-4"]
    assert await ids(message_id="m-2", token=DEVICE) == ["m-2"]
    assert await ids(message_id="m-2", token="ab") == []
    assert await ids(accepted="false") == ["bad"]


@pytest.mark.parametrize("query", [{"limit": "x"}, {"limit": "-1"}, {"accepted": "maybe"}])
async def test_bad_queries_are_refused_by_name(ask: httpx.AsyncClient, query: dict[str, str]) -> None:
    answer = await ask.get("/v1/deliveries", params=query)
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, next(iter(query)))


async def test_an_apns_message_without_a_mark_is_known_by_its_apns_id(
    sandbox: SandboxServer, ask: httpx.AsyncClient
) -> None:
    name = "0190aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"
    await push(sandbox, {}, apns_id=name)
    assert len((await ask.get("/v1/deliveries", params={"message_id": name})).json()) == 1


async def test_stats_count_repeats_and_refusals(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await push(sandbox, *({"automata_message_id": name} for name in ("a", "b", "a", "a", "b", "c")))
    await push(sandbox, {}, apns_priority="3")
    stats = (await ask.get("/v1/stats")).json()
    assert stats["apns"] == {
        "requests": 7,
        "accepted": 6,
        "rejected": {"BadPriority": 1},
        "accepted_more_than_once": 2,
        "duplicates": 3,
        "unanswered": {},
    }
    assert stats["fcm"]["requests"] == 0


async def test_the_ledger_has_a_line_for_every_request(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await push(sandbox, {"automata_message_id": "m-1"}, apns_collapse_id="c-1")
    await push(sandbox, {"automata_message_id": "m-2"}, apns_priority="3")
    async with sandbox.client() as client:
        headers = {"authorization": f"Bearer {await sandbox.access_token(client)}"}
        data, android = {"automata_message_id": "f-1"}, {"notification": {"tag": "t-1"}}
        message = {"token": "unregistered-1", "data": data, "android": android}
        await client.post(SEND, json={"message": message}, headers=headers)
    lines = [json.loads(line) for line in (await ask.get("/v1/ledger")).text.splitlines()]
    shown = [(x["provider"], x["message_id"], x["token"], x["collapse"], x["accepted"], x["reason"]) for x in lines]
    assert shown == [
        ("apns", "m-1", DEVICE, "c-1", True, None),
        ("apns", "m-2", DEVICE, None, False, "BadPriority"),
        ("fcm", "f-1", "unregistered-1", "t-1", False, "UNREGISTERED"),
    ]
    assert all(line["at"] for line in lines)


async def test_texts_are_bounded_while_counts_and_ledger_go_on(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await push(sandbox, *({"automata_message_id": f"m-{number}"} for number in range(520)))
    found = (await ask.get("/v1/deliveries")).json()
    assert (len(found), found[-1]["message_id"]) == (500, "m-519")
    assert len((await ask.get("/v1/ledger")).text.splitlines()) == 520
    assert (await ask.get("/v1/stats")).json()["apns"]["accepted"] == 520


async def test_the_page_escapes_what_senders_give(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await push(sandbox, {"aps": {"alert": {"title": NASTY}}, NASTY: NASTY, "automata_message_id": NASTY})
    await push(sandbox, {"automata_message_id": "late"}, apns_collapse_id=NASTY * 9)
    news = (await ask.get("/page/news", params={"after": "0"})).json()
    for text in ((await ask.get("/")).text, news["rows"]):
        assert "&lt;script&gt;" in text
        assert "<script>" not in text
        assert "alert('x')" not in text
        assert text.count("<tr data-number=") == 2


async def test_the_page_asks_nobody_else_and_sets_a_strict_policy(ask: httpx.AsyncClient) -> None:
    page = await ask.get("/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'")
    assert "unsafe" not in policy
    for path in ("/", "/page.js", "/page.css"):
        answer = await ask.get(path)
        assert answer.status_code == 200
        assert "//" not in re.sub(r"^//.*$", "", answer.text, flags=re.MULTILINE)
    assert "style=" not in page.text
    assert "onclick" not in page.text


async def test_the_page_is_told_only_what_is_new(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await push(sandbox, {"automata_message_id": "one"})
    first = (await ask.get("/page/news", params={"after": "0"})).json()
    await push(sandbox, {"automata_message_id": "two"})
    second = (await ask.get("/page/news", params={"after": str(first["newest"])})).json()
    assert second["newest"] == first["newest"] + 1
    assert ("one" in second["rows"], "two" in second["rows"]) == (False, True)
    assert (await ask.get("/page/news", params={"after": "x"})).status_code == 422


async def test_health(ask: httpx.AsyncClient) -> None:
    assert [(await ask.get(path)).status_code for path in ("/livez", "/readyz", "/v1/none")] == [200, 200, 404]


async def test_the_token_endpoints_bodies_are_kept_nowhere(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    async with sandbox.client() as client:
        token = await sandbox.access_token(client)
    kept = [(await ask.get(path)).text for path in ("/v1/deliveries", "/v1/deliveries?accepted=false", "/v1/ledger")]
    assert not any(token in text or "assertion" in text for text in kept)
    assert (await ask.get("/v1/stats")).json()["oauth"]["accepted"] == 1


async def test_a_reset_forgets_everything(sandbox: SandboxServer, ask: httpx.AsyncClient) -> None:
    await push(sandbox, {"automata_message_id": "m"})
    await ask.delete("/v1/deliveries")
    assert (await ask.get("/v1/deliveries")).json() == []
    assert (await ask.get("/v1/ledger")).text == ""
    assert (await ask.get("/v1/stats")).json()["apns"]["requests"] == 0
    await push(sandbox, {"automata_message_id": "m"})
    assert (await ask.get("/v1/stats")).json()["apns"]["accepted_more_than_once"] == 0
