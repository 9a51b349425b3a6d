"""Applications changed, listed; the public key that verifies their users; credentials and stops of strangers."""

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from libs import rpc
from libs.bus import Bus
from libs.errors import ResourceNotFound, ValidationFailed
from libs.ids import new_id
from tests.contract.application_harness import audit_of, authenticate, make_application, make_key

pytest_plugins = ["tests.contract.application_fixtures"]

UNKNOWN = "01990000-0000-7000-8000-000000000000"
Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def public(key: Private) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private(key: Private) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


async def update(bus: Bus, application_id: str, **changes: Any) -> rpc.ApplicationView:
    request = rpc.UpdateApplication(application_id, "cli:ann", **changes)
    return await bus.call("application", "update_application", request, rpc.ApplicationView)


async def refused_fields(bus: Bus, application_id: str, **changes: Any) -> list[str]:
    with pytest.raises(ValidationFailed) as refused:
        await update(bus, application_id, **changes)
    assert not any(
        value in str(refused.value.details) for value in changes.values() if isinstance(value, str) and value
    )
    return list(refused.value.details["fields"])


async def test_what_is_not_named_stays(bus: Bus, application_id: str) -> None:
    await update(bus, application_id, settings={"a": 1, "b": {"c": None}})
    changed = await update(bus, application_id, tier="enterprise")
    assert (changed.name, changed.tier, changed.settings) == ("Shop", "enterprise", {"a": 1, "b": {"c": None}})
    changed = await update(bus, application_id, name="Store", settings={"a": None, "d": 2})
    assert (changed.name, changed.settings) == ("Store", {"b": {"c": None}, "d": 2})


async def test_simultaneous_changes_of_settings_all_hold(bus: Bus, application_id: str) -> None:
    await asyncio.gather(*(update(bus, application_id, settings={f"s{i}": i}) for i in range(8)))
    assert (await update(bus, application_id)).settings == {f"s{i}": i for i in range(8)}


async def test_a_change_names_its_fields_in_the_audit_log_and_nothing_is_recorded_without_one(
    bus: Bus, application_id: str
) -> None:
    await update(bus, application_id, name="Store", settings={"secret": "value"})
    await update(bus, application_id, name="Store")
    newest = (await audit_of(bus, application_id))[0]
    assert (newest.action, newest.actor, newest.data) == (
        "application.update",
        "cli:ann",
        {"fields": ["name", "settings"]},
    )
    assert len(await audit_of(bus, application_id)) == 2


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["ES256", "RS256", "EdDSA"],
)
async def test_gateways_learn_the_identity_key_with_each_key(bus: Bus, application_id: str, key: Private) -> None:
    made = await make_key(bus, application_id, "client")
    view = await update(bus, application_id, identity_public_key=f"\n{public(key)}\n", identity_required=True)
    assert (view.has_identity_key, view.identity_required) == (True, True)
    principal = await authenticate(bus, made.api_key)
    assert (principal.identity_public_key, principal.identity_required) == (public(key), True)
    view = await update(bus, application_id, identity_public_key="", identity_required=False)
    assert (view.has_identity_key, view.identity_required) == (False, False)
    assert (await authenticate(bus, made.api_key)).identity_public_key is None


@pytest.mark.parametrize(
    "pem",
    [
        "nonsense",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        private(ec.generate_private_key(ec.SECP256R1())),
        public(ec.generate_private_key(ec.SECP256R1())) + private(ec.generate_private_key(ec.SECP256R1())),
        public(ec.generate_private_key(ec.SECP384R1())),
        public(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
        "x" * 100_000,
    ],
    ids=["text", "damaged", "private", "both", "P-384", "short RSA", "long"],
)
async def test_what_cannot_verify_is_refused(bus: Bus, application_id: str, pem: str) -> None:
    assert await refused_fields(bus, application_id, identity_public_key=pem) == ["identity_public_key"]


async def test_verification_is_not_required_without_a_key(bus: Bus, application_id: str) -> None:
    assert await refused_fields(bus, application_id, identity_required=True) == ["identity_required"]
    key = public(ec.generate_private_key(ec.SECP256R1()))
    await update(bus, application_id, identity_public_key=key, identity_required=True)
    assert await refused_fields(bus, application_id, identity_public_key="") == ["identity_required"]


async def test_an_application_is_created_with_its_identity_key_or_not_at_all(bus: Bus, service: None) -> None:
    key = public(ed25519.Ed25519PrivateKey.generate())
    made = rpc.CreateApplication(new_id(), "Shop", identity_public_key=key, identity_required=True)
    await bus.call("application", "create_application", made, rpc.ApplicationCreated)
    assert (await update(bus, made.application_id)).identity_required
    bad = rpc.CreateApplication(new_id(), "Shop", identity_public_key="nonsense")
    with pytest.raises(ValidationFailed):
        await bus.call("application", "create_application", bad, rpc.ApplicationCreated)
    with pytest.raises(ResourceNotFound):
        await update(bus, bad.application_id)


async def test_settings_stay_bounded_however_they_grow(bus: Bus, application_id: str) -> None:
    await update(bus, application_id, settings={"a": "x" * 10_000})
    assert await refused_fields(bus, application_id, settings={"b": "x" * 10_000}) == ["settings"]


async def test_applications_are_listed_page_by_page(bus: Bus, service: None) -> None:
    made = sorted([await make_application(bus) for _ in range(5)])
    found: list[str] = []
    while True:
        question = rpc.ListApplications(found[-1] if found else None, 2)
        page = await bus.call("application", "list_applications", question, rpc.Applications)
        if not page.applications:
            break
        found += [each.id for each in page.applications]
    assert found == made


@pytest.mark.parametrize("unknown", [UNKNOWN, "nonsense", f"{UNKNOWN}\n"])
@pytest.mark.parametrize(
    ("verb", "request_"),
    [
        ("update_application", rpc.UpdateApplication("", "cli")),
        ("create_key", rpc.CreateKey("", "key", ["send"])),
        ("list_keys", rpc.ListKeys("")),
        ("delete_credential", rpc.DeleteCredential("", "apns")),
        ("list_credentials", rpc.ListCredentials("")),
        ("credential", rpc.GetCredential("", "apns")),
        ("set_stop", rpc.SetStop("", "apns", "cli")),
        ("release_stop", rpc.ReleaseStop("", "apns", "cli")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_unknown_application_is_not_found(
    bus: Bus, service: None, verb: str, request_: Any, unknown: str
) -> None:
    fields = {name: getattr(request_, name) for name in request_.__struct_fields__}
    request = type(request_)(**{**fields, "application_id": unknown})
    with pytest.raises(ResourceNotFound):
        await bus.call("application", verb, request, rpc.Empty)


class TestStops:
    async def stop(self, bus: Bus, application_id: str, channel: str, **options: Any) -> rpc.Stop:
        request = rpc.SetStop(application_id, channel, "key:1", **options)
        return await bus.call("application", "set_stop", request, rpc.Stop)

    async def stopped(self, bus: Bus, application_id: str | None) -> list[tuple[str, str]]:
        found = await bus.call("application", "stops", rpc.ListStops(application_id), rpc.Stops)
        return [(each.application_id, each.channel) for each in found.stops]

    async def test_stops_are_told_of_one_application_or_of_all(
        self, bus: Bus, application_id: str, stranger_id: str
    ) -> None:
        await self.stop(bus, application_id, "*")
        await self.stop(bus, stranger_id, "apns")
        assert await self.stopped(bus, application_id) == [(application_id, "*")]
        assert await self.stopped(bus, None) == sorted([(application_id, "*"), (stranger_id, "apns")])
        release = rpc.ReleaseStop(stranger_id, "*", "key:1")
        with pytest.raises(ResourceNotFound):
            await bus.call("application", "release_stop", release, rpc.Empty)
        assert len(await self.stopped(bus, None)) == 2

    async def test_the_first_of_several_at_once_makes_it(self, bus: Bus, application_id: str) -> None:
        made = await asyncio.gather(*(self.stop(bus, application_id, "fcm", reason=str(i)) for i in range(8)))
        assert [stop.is_new for stop in made].count(True) == 1
        assert len({(stop.reason, stop.since_ms) for stop in made}) == 1
        assert [entry.action for entry in await audit_of(bus, application_id, "emergency_stop/fcm")] == [
            "emergency_stop.set"
        ]

    @pytest.mark.parametrize("channel", ["", "APNS", "a b", "**", "x" * 40, "apns\n", "a\0"])
    async def test_what_is_no_channel_is_refused(self, bus: Bus, application_id: str, channel: str) -> None:
        with pytest.raises(ValidationFailed):
            await self.stop(bus, application_id, channel)
        request = rpc.ReleaseStop(application_id, channel, "key:1")
        with pytest.raises(ResourceNotFound):
            await bus.call("application", "release_stop", request, rpc.Empty)
