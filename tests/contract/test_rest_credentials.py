"""PUT, GET and DELETE /credentials: set, named, never shown."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from libs import rpc
from libs.clock import FakeClock
from libs.pg import single_connection
from services.ingest.credentials import EXAMPLE_APNS, EXAMPLE_FCM
from services.senders.credential_cache import CredentialCache
from tests.contract.whole_platform import Whole

pytest_plugins = ["tests.contract.whole_fixtures"]

EXAMPLES: dict[str, dict[str, Any]] = {"apns": EXAMPLE_APNS, "fcm": EXAMPLE_FCM}


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


async def sender_sees(whole: Whole, application_id: str, provider: rpc.Provider) -> rpc.Credential:
    request = rpc.GetCredential(application_id, provider)
    return await whole.bus.call("application", "credential", request, rpc.Credential)


@pytest.mark.parametrize("provider", ["apns", "fcm"])
async def test_what_was_set_is_what_senders_get_and_nobody_else(whole: Whole, provider: rpc.Provider) -> None:
    shop = await whole.tenant()
    statuses = []
    for _ in range(2):
        answer = await shop.call("PUT", f"/credentials/{provider}", EXAMPLES[provider])
        statuses.append((answer.status, answer.data["version"]))
        assert set(answer.data) == {"provider", "version", "updated_at"}
    assert statuses == [(201, 1), (200, 2)]
    listed = await shop.get("/credentials")
    assert [(each["provider"], each["version"]) for each in listed.data["credentials"]] == [(provider, 2)]
    assert "PRIVATE KEY" not in str(listed.body)
    assert (await sender_sees(whole, shop.application_id, provider)).secret == EXAMPLES[provider]


async def test_deleting_ends_it_and_says_when_there_is_none(whole: Whole) -> None:
    shop = await whole.tenant()
    await shop.call("PUT", "/credentials/apns", EXAMPLE_APNS)
    answers = [await shop.call("DELETE", "/credentials/apns") for _ in range(2)]
    assert [answer.status for answer in answers] == [200, 404]
    assert (await shop.get("/credentials")).data == {"credentials": []}


async def test_another_application_sees_and_deletes_nothing_of_it(whole: Whole) -> None:
    shop, stranger = await whole.tenant(), await whole.tenant()
    await shop.call("PUT", "/credentials/apns", EXAMPLE_APNS)
    assert (await stranger.get("/credentials")).data == {"credentials": []}
    assert (await stranger.call("DELETE", "/credentials/apns")).status == 404
    assert len((await shop.get("/credentials")).data["credentials"]) == 1


@pytest.mark.parametrize("scopes", [["send"], ["read"], ["client"]])
async def test_only_manage_may(whole: Whole, scopes: list[str]) -> None:
    shop = await whole.tenant(scopes=scopes)
    answers = [
        await shop.call("PUT", "/credentials/apns", EXAMPLE_APNS),
        await shop.get("/credentials"),
        await shop.call("DELETE", "/credentials/apns"),
    ]
    assert [answer.status for answer in answers] == [403, 403, 403]


@pytest.mark.parametrize(
    ("provider", "changes", "field"),
    [
        ("apns", {"team_id": "short"}, "team_id"),
        ("apns", {"private_key_pem": "nonsense"}, "private_key_pem"),
        ("apns", {"private_key_pem": EXAMPLE_FCM["private_key"]}, "private_key_pem"),
        ("apns", {"topic": "has space"}, "topic"),
        ("apns", {"unknown": 1}, "unknown"),
        ("fcm", {"private_key": EXAMPLE_APNS["private_key_pem"]}, "private_key"),
        ("fcm", {"client_email": "nobody"}, "client_email"),
        ("fcm", {"token_uri": "http://oauth2.googleapis.com/token"}, "token_uri"),
    ],
)
async def test_a_wrong_one_is_refused_by_field_in_both_languages_without_its_value(
    whole: Whole, provider: str, changes: dict[str, Any], field: str
) -> None:
    shop = await whole.tenant()
    body = {**EXAMPLES[provider], **changes}
    english = await shop.call("PUT", f"/credentials/{provider}", body)
    korean = await shop.call("PUT", f"/credentials/{provider}", body, headers={"Accept-Language": "ko"})
    assert (english.status, english.code, list(english.details["fields"])) == (422, "validation_error", [field])
    assert english.details["fields"][field].isascii()
    assert not korean.details["fields"][field].isascii()
    assert "PRIVATE KEY" not in str(english.body)
    assert (await shop.get("/credentials")).data == {"credentials": []}


async def test_what_is_missing_is_named(whole: Whole) -> None:
    shop = await whole.tenant()
    answer = await shop.call("PUT", "/credentials/apns", {"team_id": "TEAM123456"})
    assert (answer.status, answer.code) == (400, "invalid_request")
    assert set(answer.details["fields"]) == {"key_id", "private_key_pem", "topic"}


async def test_a_provider_that_there_is_not_is_not_found(whole: Whole) -> None:
    shop = await whole.tenant()
    assert (await shop.call("PUT", "/credentials/pigeon", {})).status == 404


async def test_changes_are_in_the_audit_log_once_and_without_values(whole: Whole) -> None:
    shop = await whole.tenant()
    headers = {"X-Request-Id": "request-1"}
    await shop.call("PUT", "/credentials/apns", EXAMPLE_APNS, headers=headers)
    await shop.call("DELETE", "/credentials/apns")
    log = (await shop.get("/audit-log", params={"resource": "credential/apns"})).data["entries"]
    assert [(entry["action"], entry["data"]) for entry in log] == [
        ("credential.delete", {"version": 1}),
        ("credential.set", {"version": 1}),
    ]
    assert log[1]["request_id"] == "request-1"
    assert log[1]["actor"].startswith("key:")
    async with single_connection(whole.database.admin_dsn) as c:
        everything = await c.fetchval("SELECT string_agg(audit_log::text, '') FROM application.audit_log")
    assert "KEY1234567" not in everything


async def test_a_changed_credential_reaches_senders_within_their_cache_time(whole: Whole) -> None:
    shop = await whole.tenant()
    await shop.call("PUT", "/credentials/apns", EXAMPLE_APNS)
    clock = FakeClock()
    cache = CredentialCache(whole.bus, "apns", clock)
    assert await cache.get(shop.application_id) == rpc.Credential(1, EXAMPLE_APNS)
    changed = {**EXAMPLE_APNS, "private_key_pem": pem(ec.generate_private_key(ec.SECP256R1()))}
    await shop.call("PUT", "/credentials/apns", changed)
    clock.advance(30.0)
    assert await cache.get(shop.application_id) == rpc.Credential(2, changed)
