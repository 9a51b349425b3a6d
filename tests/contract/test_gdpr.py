"""After a user is deleted nothing of the person can be read: not in tables, streams, logs or the API; counts stay."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import services.dispatcher.__main__ as dispatcher
import services.dispatcher.settings
import services.senders.__main__ as senders
from libs import config, rpc
from libs.ids import new_id
from libs.pg import single_connection
from services.ingest.routes import PREFIX, ROUTES
from services.senders.settings import Apns, Fcm, Sender
from services.senders.settings import Settings as SenderSettings
from tests.contract import gdpr_search
from tests.contract.sandbox_server import SandboxServer, running_sandbox
from tests.contract.whole_platform import Tenant, Whole
from tests.in_process import running
from tests.waiting import until

pytest_plugins = ["tests.contract.whole_fixtures"]

APNS_TOKEN = "5ec7e70ce0" * 8
OLD_APNS_TOKEN = "0dde5ec7e7" * 8
FCM_TOKEN = "fcm-Qm9iYnlUYWJsZXM-tablet-token"
DEAD_TOKEN = "unregistered-Qm9iYnlUYWJsZXM"
EMAIL = "minji.kim.privat@example.com"
PHONE = "+821087650912"
KAKAO = "+821026548810"
IN_APP = "in-app-Um9iaW4-address"
NAME = "김민지-Konto/7791"

WORDS = (
    APNS_TOKEN,
    OLD_APNS_TOKEN,
    FCM_TOKEN,
    DEAD_TOKEN,
    EMAIL,
    PHONE,
    KAKAO,
    IN_APP,
    NAME,
    "제목이 있는 비밀",
    "body-of-the-anonymous-time",
    "body-of-the-known-time",
    "body-sent-to-the-person",
    "body-of-the-batch-item",
    "body-to-the-dead-token",
    "value-in-message-data",
    "button-text-of-a-push",
    "collapse-key-of-hers",
    "template-variable-of-hers",
    "conversion-data-of-hers",
    "tag-value-of-hers",
    "device-model-of-hers",
    "installation-id-of-hers",
    "imported-tag-value-of-hers",
)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as server:
        yield server


@pytest.fixture
async def sending(
    whole: Whole, key_ring_file: Path, nats_settings: config.Nats, sandbox: SandboxServer
) -> AsyncIterator[Whole]:
    """The whole platform, with the dispatcher and the senders, in front of the sandbox."""
    ca = str(sandbox.tls_files.ca)
    settings = services.dispatcher.settings.Settings(config.Keys(str(key_ring_file)), nats_settings)
    apns = SenderSettings(Sender("apns"), nats_settings, apns=Apns(sandbox.url, sandbox.url, ca))
    fcm = SenderSettings(Sender("fcm"), nats_settings, fcm=Fcm(sandbox.url, ca))
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(running("dispatcher", dispatcher.start, settings))
        await stack.enter_async_context(running("sender-apns", senders.start, apns))
        await stack.enter_async_context(running("sender-fcm", senders.start, fcm))
        yield whole


class Person:
    """Somebody with devices of several types, of whom much is known."""

    def __init__(self, shop: Tenant) -> None:
        self.shop = shop
        self.subscriptions: list[str] = []
        self.messages: list[str] = []
        self.user_id = ""

    async def live(self, template_id: str) -> None:
        """Everything that the platform lets an application tell of a person."""
        await self._be_anonymous()
        await self._be_known()
        await self._be_imported()
        await self._be_written_to(template_id)

    async def _be_anonymous(self) -> None:
        device = {"device_model": "device-model-of-hers", "country_code": "KR", "device_language": "ko"}
        phone = await self._register(
            "iOSPush", OLD_APNS_TOKEN, device_info=device, installation_id="installation-id-of-hers"
        )
        await self._send(subscription_id=phone, title="제목이 있는 비밀", body="body-of-the-anonymous-time")

    async def _be_known(self) -> None:
        shop, (phone,) = self.shop, self.subscriptions
        keyed = {"Idempotency-Key": new_id()}
        body = {"external_id": NAME, "subscriptions": [phone]}
        self.user_id = (await shop.post("/users/identify", body, headers=keyed)).data["user_id"]
        await shop.post(f"/subscriptions/{phone}/tags", {"tags": {"plan": "tag-value-of-hers"}})
        changed = await shop.call("PATCH", f"/subscriptions/{phone}", {"token": APNS_TOKEN})
        assert changed.status == 200, changed
        for kind, token in (
            ("AndroidPush", FCM_TOKEN),
            ("AndroidPush", DEAD_TOKEN),
            ("Email", EMAIL),
            ("SMS", PHONE),
            ("KakaoTalk", KAKAO),
            ("InAppMessage", IN_APP),
        ):
            await self._register(kind, token, user_id=NAME, tags={"plan": "tag-value-of-hers"})

    async def _be_imported(self) -> None:
        tags = {"note": "imported-tag-value-of-hers"}
        lines = [
            {"type": "Email", "token": f"2.{EMAIL}", "user_id": NAME, "tags": tags},
            {"type": "SMS", "token": EMAIL},
        ]
        body = b"\n".join(json.dumps(line).encode() for line in lines)
        headers = {"Content-Type": "application/x-ndjson"}
        done = await self.shop.call("PUT", f"/subscriptions/imports/{new_id()}", data=body, headers=headers)
        assert (done.data["created"], done.data["failed"]) == (1, 1)

    async def _be_written_to(self, template_id: str) -> None:
        phone, tablet, dead, *_ = self.subscriptions
        push = {"buttons": [{"id": "yes", "text": "button-text-of-a-push"}]}
        data = {"nested": {"value": "value-in-message-data"}}
        await self._send(
            subscription_id=phone,
            body="body-of-the-known-time",
            data=data,
            push=push,
            collapse_key="collapse-key-of-hers",
        )
        await self._send(external_id=NAME, channels=["iOSPush"], body="body-sent-to-the-person")
        await self._send(subscription_id=dead, body="body-to-the-dead-token")
        variables = {"who": "template-variable-of-hers"}
        await self._send(subscription_id=tablet, template_id=template_id, variables=variables)
        items = [{"subscription_id": tablet, "body": "body-of-the-batch-item"}, {"external_id": NAME, "title": ""}]
        batch = await self.shop.post("/messages/batch", {"messages": items})
        self.messages += [each["message_id"] for each in batch.data["results"] if "message_id" in each]

    async def react(self) -> None:
        for message_id in self.messages[:3]:
            await self.shop.post(f"/messages/{message_id}/status", {"status": "received"})
            body = {"action": "bought", "data": {"what": "conversion-data-of-hers"}}
            assert (await self.shop.post(f"/messages/{message_id}/convert", body)).status == 200

    async def _register(self, kind: str, token: str, **more: Any) -> str:
        headers = {"Idempotency-Key": new_id()}
        made = await self.shop.post("/subscriptions", {"type": kind, "token": token, **more}, headers=headers)
        assert made.status == 201, made
        self.subscriptions.append(made.data["subscription_id"])
        return self.subscriptions[-1]

    async def _send(self, **body: Any) -> None:
        sent = await self.shop.post("/messages", body, headers={"Idempotency-Key": new_id()})
        assert sent.status == 201, sent
        self.messages.append(sent.data["message_id"])


async def prepared(whole: Whole, sandbox: SandboxServer) -> tuple[Tenant, str]:
    """An application with the providers' credentials, and a template."""
    shop = await whole.tenant()
    for provider, secret in (("apns", sandbox.apns), ("fcm", sandbox.account)):
        wanted = rpc.SetCredential(shop.application_id, provider, secret)  # type: ignore[arg-type]  # of the two
        await whole.bus.call("application", "set_credential", wanted, rpc.CredentialInfo)
    made = await shop.post("/templates", {"name": "hello", "body_template": "Hello {{ who }}"})
    assert made.status == 201, made
    return shop, made.data["template_id"]


async def all_final(shop: Tenant, messages: list[str]) -> None:
    async def is_final() -> bool:
        found = [(await shop.get(f"/messages/{each}")).data["status"] for each in messages]
        return not {"pending", "errored"} & set(found)

    await until(is_final, "every message is sent or failed")


async def counts(whole: Whole) -> dict[str, Any]:
    """What analytics are made of."""
    async with single_connection(whole.database.admin_dsn) as admin:
        messages = "SELECT status, channel, count(*) FROM lifecycle.messages GROUP BY 1, 2 ORDER BY 1, 2"
        events = "SELECT kind, count(*) FROM lifecycle.message_events GROUP BY 1 ORDER BY 1"
        people = "SELECT count(*), (SELECT count(*) FROM subscription.subscriptions) FROM subscription.users"
        return {text: [tuple(row) for row in await admin.fetch(text)] for text in (messages, events, people)}


async def read_everything(shop: Tenant, person: Person, known: dict[str, list[str]]) -> str:
    """Every GET of the API, with every id that there is. The external id is not asked for: it would be echoed."""
    texts = []
    for route in ROUTES:
        if route.method != "GET":
            continue
        kind = route.path.split("/")[1]
        ids = [person.user_id] if kind == "users" else known.get(kind, [new_id()])
        for each in ids if "{" in route.path else [""]:
            path = PREFIX + route.path.replace("{id}", each).replace("{external_id}", each)
            headers = {"X-API-Key": shop.api_key}
            async with shop.session.get(path, headers=headers) as response:
                assert response.status in (200, 404), (path, response.status)
                texts.append(await response.text())
    return "\n".join(texts)


async def test_nothing_of_a_deleted_person_can_be_read(
    sending: Whole, sandbox: SandboxServer, capfd: pytest.CaptureFixture[str]
) -> None:
    shop, template_id = await prepared(sending, sandbox)
    person, other = Person(shop), await bystander(shop)
    await person.live(template_id)
    await all_final(shop, person.messages)
    await person.react()
    before, there = await counts(sending), await gdpr_search.in_tables(*where(sending), WORDS)
    assert set(there) == {*WORDS} - {OLD_APNS_TOKEN}, "the search finds what is there"
    deleted = await shop.call("DELETE", f"/users/{person.user_id}")
    request_id = deleted.data["request_id"]
    unreadable = await gdpr_search.in_tables(*where(sending), WORDS)  # at once
    assert {word: table for word, table in unreadable.items() if table != "lifecycle.idempotency_keys"} == {}
    await all_completed(shop, request_id)
    assert await gdpr_search.in_tables(*where(sending), WORDS) == {}
    assert await gdpr_search.in_streams(sending.bus, WORDS) == {}
    known = {"subscriptions": person.subscriptions, "messages": person.messages, "deletions": [request_id]}
    assert gdpr_search.in_text(await read_everything(shop, person, known), WORDS) == set()
    captured = capfd.readouterr()
    assert gdpr_search.in_text(captured.out + captured.err, WORDS) == set()
    assert await counts(sending) == before
    assert (await shop.get(f"/messages/{other}")).data["body"] == "of somebody else"


def where(whole: Whole) -> tuple[str, Path]:
    return whole.database.admin_dsn, whole.ring_file


async def bystander(shop: Tenant) -> str:
    """Somebody else, whose message stays legible: its id."""
    made = await shop.post("/subscriptions", {"type": "iOSPush", "token": "ab" * 32, "user_id": "somebody else"})
    body = {"subscription_id": made.data["subscription_id"], "body": "of somebody else"}
    found: str = (await shop.post("/messages", body)).data["message_id"]
    await all_final(shop, [found])
    return found


async def all_completed(shop: Tenant, request_id: str) -> None:
    async def is_completed() -> bool:
        return bool((await shop.get(f"/deletions/{request_id}")).data["status"] == "completed")

    await until(is_completed, "the deletion is completed")
