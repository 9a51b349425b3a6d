"""The application service, asked over NATS as other services ask it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from libs import bearer, config, rpc
from libs.bus import Bus
from libs.errors import AuthenticationFailed, ResourceNotFound, ValidationFailed
from libs.ids import new_id
from libs.pg import single_connection
from services.application import keys
from services.application.__main__ import start
from services.application.settings import Settings
from tests.databases import Database
from tests.in_process import running

SEALED = "SELECT sealed FROM application.credentials WHERE application_id = $1"
COPY_CREDENTIAL = """
UPDATE application.credentials AS target SET sealed = source.sealed, wrapped_key = source.wrapped_key
FROM application.credentials AS source WHERE source.application_id = $1 AND target.application_id = $2
"""
NOBODY = "01990000-0000-7000-8000-000000000000"


@pytest.fixture(autouse=True)
async def application(database: Database, key_ring_file: Path, nats_settings: config.Nats) -> AsyncIterator[None]:
    settings = Settings(
        config.Database(database.dsn("application"), pool=4), config.Keys(str(key_ring_file)), nats_settings
    )
    async with running("application", start, settings):
        yield


@pytest.fixture
async def application_id(bus: Bus) -> str:
    created = rpc.CreateApplication(new_id(), "Shop", "premium", {"receipt_timeout_hours": 72})
    return (await bus.call("application", "create_application", created, rpc.ApplicationCreated)).application_id


async def make_key(bus: Bus, application_id: str) -> rpc.KeyCreated:
    request = rpc.CreateKey(application_id, "back end", ["send", "read"])
    return await bus.call("application", "create_key", request, rpc.KeyCreated)


async def authenticate(bus: Bus, api_key: str) -> rpc.Principal:
    digest = hashlib.sha256(api_key.encode()).digest()
    return await bus.call("application", "authenticate", rpc.Authenticate(digest), rpc.Principal)


async def set_credential(
    bus: Bus, application_id: str, provider: Literal["apns", "fcm"], secret: dict[str, Any]
) -> None:
    await bus.call(
        "application", "set_credential", rpc.SetCredential(application_id, provider, secret), rpc.CredentialInfo
    )


async def credential(bus: Bus, application_id: str, provider: Literal["apns", "fcm"]) -> rpc.Credential:
    request = rpc.GetCredential(application_id, provider)
    return await bus.call("application", "credential", request, rpc.Credential)


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def apns_secret(**changes: Any) -> dict[str, Any]:
    key = pem(ec.generate_private_key(ec.SECP256R1()))
    good = {"team_id": "TEAM123456", "key_id": "KEY1234567", "private_key_pem": key, "topic": "com.example.shop"}
    return {**good, **changes}


async def test_a_key_tells_its_application_scopes_and_tier(bus: Bus, application_id: str) -> None:
    made = await make_key(bus, application_id)
    assert await authenticate(bus, made.api_key) == rpc.Principal(
        application_id, made.key_id, ["read", "send"], "premium"
    )


async def test_a_key_carries_a_checksum_that_typing_errors_break() -> None:
    key = keys.new_key()
    random, found = key.removeprefix("as_")[:-6], key[-6:]
    assert len(random) >= 26
    assert bearer.checksum(random) == found
    assert bearer.checksum(random[::-1]) != found or random == random[::-1]


async def test_an_unknown_key_is_refused(bus: Bus, application_id: str) -> None:
    with pytest.raises(AuthenticationFailed):
        await authenticate(bus, keys.new_key())


async def test_a_revoked_key_never_authenticates_again(bus: Bus, application_id: str) -> None:
    made = await make_key(bus, application_id)
    for _ in range(2):
        await bus.call("application", "revoke_key", rpc.RevokeKey(made.key_id), rpc.Empty)
        with pytest.raises(AuthenticationFailed):
            await authenticate(bus, made.api_key)


@pytest.mark.parametrize("key_id", [NOBODY, "nonsense", NOBODY + "\n"])
async def test_revoking_an_unknown_key_says_so(bus: Bus, key_id: str) -> None:
    with pytest.raises(ResourceNotFound):
        await bus.call("application", "revoke_key", rpc.RevokeKey(key_id), rpc.Empty)


async def test_neither_the_key_nor_its_plain_digest_is_stored(
    bus: Bus, application_id: str, database: Database
) -> None:
    made = await make_key(bus, application_id)
    async with single_connection(database.admin_dsn) as c:
        stored = await c.fetchval("SELECT keyed_hash FROM application.api_keys")
        everything = await c.fetchval("SELECT string_agg(api_keys::text, '') FROM application.api_keys")
    assert len(stored) == 32
    assert stored != hashlib.sha256(made.api_key.encode()).digest()
    assert made.api_key not in everything


async def test_creating_an_application_twice_changes_nothing(bus: Bus, application_id: str) -> None:
    again = rpc.CreateApplication(application_id, "Other", "default")
    await bus.call("application", "create_application", again, rpc.ApplicationCreated)
    made = await make_key(bus, application_id)
    assert (await authenticate(bus, made.api_key)).tier == "premium"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (rpc.CreateApplication("not-an-id", "Shop"), "application_id"),
        (rpc.CreateApplication(NOBODY, ""), "name"),
        (rpc.CreateApplication(NOBODY, "x" * 201), "name"),
        (rpc.CreateApplication(NOBODY, "a\0b"), "name"),
        (rpc.CreateApplication(NOBODY, "Shop", settings={"a": "\0"}), "settings"),
        (rpc.CreateApplication(NOBODY, "Shop", settings={"a": "x" * 20_000}), "settings"),
    ],
    ids=["no uuid", "no name", "long name", "NUL in name", "NUL in settings", "large settings"],
)
async def test_a_malformed_application_is_refused(bus: Bus, request_: rpc.CreateApplication, field: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await bus.call("application", "create_application", request_, rpc.ApplicationCreated)
    assert list(refused.value.details["fields"]) == [field]


@pytest.mark.parametrize("scopes", [[], ["everything"], ["send", "Send"]])
async def test_a_key_needs_known_scopes(bus: Bus, application_id: str, scopes: list[str]) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await bus.call("application", "create_key", rpc.CreateKey(application_id, "key", scopes), rpc.KeyCreated)
    assert list(refused.value.details["fields"]) == ["scopes"]


@pytest.mark.parametrize("unknown", [NOBODY, "nonsense"])
async def test_nothing_is_kept_for_an_unknown_application(bus: Bus, unknown: str) -> None:
    with pytest.raises(ResourceNotFound):
        await make_key(bus, unknown)
    with pytest.raises(ResourceNotFound):
        await set_credential(bus, unknown, "apns", apns_secret())
    with pytest.raises(ResourceNotFound):
        await credential(bus, unknown, "apns")


async def test_a_credential_comes_back_as_it_was_given_with_rising_versions(bus: Bus, application_id: str) -> None:
    for version in (1, 2):
        secret = apns_secret(topic=f"com.example.v{version}")
        await set_credential(bus, application_id, "apns", secret)
        assert await credential(bus, application_id, "apns") == rpc.Credential(version, secret)


async def test_simultaneous_changes_of_a_credential_get_versions_of_their_own(bus: Bus, application_id: str) -> None:
    secret = apns_secret()
    await asyncio.gather(*(set_credential(bus, application_id, "apns", secret) for _ in range(8)))
    assert (await credential(bus, application_id, "apns")).version == 8


async def test_a_service_account_is_kept_whole(bus: Bus, application_id: str) -> None:
    secret = {
        "type": "service_account",
        "project_id": "shop-1",
        "client_email": "push@shop-1.iam.gserviceaccount.com",
        "private_key": pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    await set_credential(bus, application_id, "fcm", secret)
    assert (await credential(bus, application_id, "fcm")).secret == secret


async def test_a_stored_credential_is_unreadable_and_bound_to_its_row(
    bus: Bus, application_id: str, database: Database
) -> None:
    other = rpc.CreateApplication(new_id(), "Other")
    await bus.call("application", "create_application", other, rpc.ApplicationCreated)
    for owner in (application_id, other.application_id):
        await set_credential(bus, owner, "apns", apns_secret())
    async with single_connection(database.admin_dsn) as c:
        sealed = await c.fetchval(
            "SELECT sealed FROM application.credentials WHERE application_id = $1", application_id
        )
        assert b"TEAM123456" not in sealed
        assert b"PRIVATE KEY" not in sealed
        await c.execute(COPY_CREDENTIAL, application_id, other.application_id)
    with pytest.raises(Exception, match="internal_server_error"):
        await credential(bus, other.application_id, "apns")


@pytest.mark.parametrize(
    ("provider", "secret", "fields"),
    [
        ("apns", {}, ["team_id", "key_id", "private_key_pem", "topic"]),
        ("apns", apns_secret(key_id="SHORT", team_id=7), ["team_id", "key_id"]),
        ("apns", apns_secret(private_key_pem="-----BEGIN PRIVATE KEY-----"), ["private_key_pem"]),
        ("apns", apns_secret(private_key_pem=pem(ec.generate_private_key(ec.SECP384R1()))), ["private_key_pem"]),
        ("apns", apns_secret(topic="has space"), ["topic"]),
        ("apns", apns_secret(note="x" * 20_000), ["secret"]),
        ("fcm", apns_secret(), ["project_id", "client_email", "private_key", "token_uri"]),
        (
            "fcm",
            {
                "project_id": "Shop/../x",
                "client_email": "nobody",
                "private_key": pem(ec.generate_private_key(ec.SECP256R1())),
                "token_uri": "http://oauth2.googleapis.com/token",
            },
            ["project_id", "client_email", "private_key", "token_uri"],
        ),
    ],
)
async def test_a_malformed_credential_is_refused_naming_each_field_and_no_value(
    bus: Bus, application_id: str, provider: Literal["apns", "fcm"], secret: dict[str, Any], fields: list[str]
) -> None:
    with pytest.raises(ValidationFailed) as refused:
        await set_credential(bus, application_id, provider, secret)
    assert list(refused.value.details["fields"]) == fields
    assert not any(str(value) in str(refused.value.details) for value in secret.values())
    with pytest.raises(ResourceNotFound):
        await credential(bus, application_id, provider)
