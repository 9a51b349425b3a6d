"""`automata app` and `automata key`, against a running application service named by NATS_URL."""

import asyncio
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from libs import config
from libs.bus import Bus
from libs.errors import AuthenticationFailed
from services.cli.main import main
from services.ingest.credentials import EXAMPLE_APNS, EXAMPLE_FCM
from tests.contract.application_harness import audit_of, authenticate, keys_of

pytest_plugins = ["tests.contract.application_fixtures"]

UNKNOWN = "01990000-0000-7000-8000-000000000000"


class Cli:
    """The command line, in a thread: it has an event loop of its own."""

    async def run(self, *arguments: str, answer: str = "") -> Result:
        return await asyncio.to_thread(CliRunner().invoke, main, arguments, answer, prog_name="automata")

    async def done(self, *arguments: str, answer: str = "") -> Any:
        """What it printed as JSON."""
        result = await self.run(*arguments, "--json", answer=answer)
        assert result.exit_code == 0, result.output
        return msgspec.json.decode(result.stdout)


@pytest.fixture
def cli(service: None, nats_settings: config.Nats, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("NATS_URL", nats_settings.url)
    monkeypatch.delenv("AUTOMATA_APPLICATION", raising=False)
    return Cli()


@pytest.fixture
def public_key(tmp_path: Path) -> Path:
    path = tmp_path / "public.pem"
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return path


class TestApp:
    async def test_is_created_changed_and_listed(self, cli: Cli, public_key: Path) -> None:
        made = await cli.done("app", "create", "Shop", "--tier", "premium", "--setting", "a=1", "--setting", "b=text")
        changed = await cli.done(
            *("app", "update", made["application_id"], "--name", "[bold] Store", "--setting", "a=null", "--yes"),
            *("--identity-key", str(public_key), "--identity-required"),
        )
        assert (changed["name"], changed["tier"], changed["settings"]) == ("[bold] Store", "premium", {"b": "text"})
        assert (changed["has_identity_key"], changed["identity_required"]) == (True, True)
        assert await cli.done("app", "list") == [changed]
        shown = await cli.run("app", "list")
        assert made["application_id"] in shown.stdout
        assert "[bold] Store" in shown.stdout

    async def test_is_created_with_its_identity_key(self, cli: Cli, public_key: Path) -> None:
        await cli.done("app", "create", "Shop", "--identity-key", str(public_key), "--identity-required")
        (listed,) = await cli.done("app", "list")
        assert listed["identity_required"] is True

    async def test_the_same_id_twice_is_one_application(self, cli: Cli) -> None:
        for name in ("Shop", "Other"):
            assert (await cli.done("app", "create", name, "--id", UNKNOWN))["application_id"] == UNKNOWN
        assert [each["name"] for each in await cli.done("app", "list")] == ["Shop"]

    async def test_what_breaks_identification_is_asked_first(self, cli: Cli, public_key: Path) -> None:
        made = await cli.done("app", "create", "Shop")
        update = ("app", "update", made["application_id"], "--identity-key", str(public_key))
        assert (await cli.run(*update)).exit_code == 1
        assert (await cli.run(*update, answer="n\n")).exit_code == 1
        assert not (await cli.done("app", "list"))[0]["has_identity_key"]
        assert (await cli.run(*update, answer="y\n")).exit_code == 0
        assert (await cli.done("app", "list"))[0]["has_identity_key"]

    async def test_what_decides_about_sending_is_set_as_the_help_shows_it(self, cli: Cli) -> None:
        made = await cli.done("app", "create", "Shop")
        shown = (await cli.run("app", "update", "--help")).stdout
        examples = [shlex.split(line) for line in shown.splitlines() if "--setting" in line and "automata" in line]
        for example in examples:
            settings = await cli.done(*example[1:3], made["application_id"], *example[4:])
        assert settings["settings"] == {
            "timezone": "Asia/Seoul",
            "rates": {"apns": 500, "fcm": 2000},
            "frequency_caps": [{"limit": 2, "per": "day", "category": "ad"}],
            "receipt_timeout_hours": 48,
        }

    async def test_a_wrong_setting_is_told_by_its_part(self, cli: Cli) -> None:
        made = await cli.done("app", "create", "Shop")
        wrong = ('quiet_hours={"start": "9pm", "end": "08:00"}', "timezone=Korea/Seoul", 'rates={"apns": "fast"}')
        options = [each for setting in wrong for each in ("--setting", setting)]
        result = await cli.run("app", "update", made["application_id"], *options)
        assert result.exit_code == 1
        assert result.stderr.splitlines()[1:] == [
            "settings.timezone must be the IANA name of a time zone, such as Asia/Seoul",
            "settings.quiet_hours.start must be a time of day, such as 21:30",
            "settings.rates must be float, got str",
        ]

    @pytest.mark.parametrize(
        ("arguments", "exit_code", "told"),
        [
            (("app", "update", UNKNOWN, "--name", "x"), 1, UNKNOWN),
            (("app", "create", "a\tb"), 1, "name must have"),
            (("app", "create", "Shop", "--identity-required"), 1, "identity required needs"),
            (("app", "create"), 2, "NAME"),
            (("app", "create", "Shop", "--tier", "gold"), 2, "gold"),
            (("app", "create", "Shop", "--setting", "novalue"), 2, "NAME=VALUE"),
            (("app", "update", UNKNOWN, "--identity-key", __file__, "--no-identity-key"), 2, "exclude"),
            (("key", "list"), 2, "--application"),
            (("key", "list", "--application", UNKNOWN), 1, UNKNOWN),
            (("key", "create", "k", "--application", UNKNOWN), 2, "--scope"),
            (("key", "create", "k", "--scope", "all", "--application", UNKNOWN), 2, "all"),
            (("key", "create", "k", "--scope", "send", "--expires", "90", "--application", UNKNOWN), 2, "90d"),
            (("key", "revoke", UNKNOWN, "--yes"), 1, UNKNOWN),
            (("key", "rotate", UNKNOWN, "--grace", "1y"), 2, "24h"),
            (("app", "credentials", "delete", "apns", "--yes", "--application", UNKNOWN), 1, "apns"),
        ],
    )
    async def test_what_cannot_be_done_says_why(
        self, cli: Cli, arguments: tuple[str, ...], exit_code: int, told: str
    ) -> None:
        result = await cli.run(*arguments)
        assert (result.exit_code, told in result.stderr) == (exit_code, True), result.stderr
        assert result.stdout == ""


class TestKey:
    @pytest.fixture
    async def owner(self, cli: Cli) -> str:
        return str((await cli.done("app", "create", "Shop"))["application_id"])

    async def test_is_printed_alone_and_works(self, cli: Cli, bus: Bus, owner: str) -> None:
        arguments = ("key", "create", "back end", "--scope", "send", "--scope", "read", "--application", owner)
        made = await cli.run(*arguments, "--expires", "90d")
        assert made.exit_code == 0
        key = made.stdout.removesuffix("\n")
        assert key not in made.stderr
        principal = await authenticate(bus, key)
        assert (principal.application_id, principal.scopes) == (owner, ["read", "send"])
        (listed,) = await cli.done("key", "list", "--application", owner)
        assert (listed["id"], listed["name"], listed["hint"]) == (principal.key_id, "back end", key[3:7])
        life_ms = listed["expires_at_ms"] - listed["created_at_ms"]
        assert abs(life_ms - 90 * 86_400_000) < 60_000
        assert key not in (await cli.run("key", "list", "--application", owner)).output

    async def test_is_rotated_with_a_grace_and_revoked(self, cli: Cli, bus: Bus, owner: str) -> None:
        old = await cli.done("key", "create", "back end", "--scope", "send", "--application", owner)
        rotated = await cli.run("key", "rotate", old["key_id"], "--grace", "1h")
        new = rotated.stdout.strip()
        assert {(await authenticate(bus, key)).application_id for key in (old["api_key"], new)} == {owner}
        assert (await cli.run("key", "revoke", old["key_id"])).exit_code == 1
        await authenticate(bus, old["api_key"])
        assert (await cli.run("key", "revoke", old["key_id"], "--yes")).exit_code == 0
        with pytest.raises(AuthenticationFailed):
            await authenticate(bus, old["api_key"])
        assert (await authenticate(bus, new)).application_id == owner

    async def test_a_rotation_without_grace_is_asked_first(self, cli: Cli, bus: Bus, owner: str) -> None:
        old = await cli.done("key", "create", "back end", "--scope", "send", "--application", owner)
        assert (await cli.run("key", "rotate", old["key_id"], "--grace", "0s")).exit_code == 1
        assert len(await keys_of(bus, owner)) == 1
        await cli.done("key", "rotate", old["key_id"], "--grace", "0s", "--yes")
        with pytest.raises(AuthenticationFailed):
            await authenticate(bus, old["api_key"])

    async def test_the_audit_log_names_who_ran_the_command(
        self, cli: Cli, bus: Bus, owner: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LOGNAME", "ann")
        made = await cli.done("key", "create", "back end", "--scope", "send", "--application", owner)
        assert [entry.actor for entry in await audit_of(bus, owner, f"key/{made['key_id']}")] == ["cli:ann"]


class TestCredentials:
    @pytest.fixture
    async def owner(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> str:
        made = str((await cli.done("app", "create", "Shop"))["application_id"])
        monkeypatch.setenv("AUTOMATA_APPLICATION", made)
        return made

    @pytest.fixture
    def write(self, tmp_path: Path) -> Callable[[str, str], str]:
        def _write(name: str, text: str) -> str:
            (tmp_path / name).write_text(text)
            return str(tmp_path / name)

        return _write

    async def test_are_set_listed_and_deleted(self, cli: Cli, owner: str, write: Callable[[str, str], str]) -> None:
        p8 = write("AuthKey_KEY1234567.p8", EXAMPLE_APNS["private_key_pem"])
        google = write("google.json", msgspec.json.encode(EXAMPLE_FCM).decode())
        of_apple = ("--team-id", "TEAM123456", "--topic", "com.example.shop")
        assert (await cli.done("app", "credentials", "set", "apns", p8, *of_apple))["version"] == 1
        assert (await cli.done("app", "credentials", "set", "fcm", google))["provider"] == "fcm"
        listed = await cli.done("app", "credentials", "list")
        assert [each["provider"] for each in listed] == ["apns", "fcm"]
        assert (await cli.run("app", "credentials", "delete", "fcm")).exit_code == 1
        assert (await cli.run("app", "credentials", "delete", "fcm", "--yes")).exit_code == 0
        shown = await cli.run("app", "credentials", "list")
        assert ("apns" in shown.stdout, "fcm" in shown.stdout) == (True, False)

    async def test_a_wrong_one_is_refused_without_showing_it(
        self, cli: Cli, owner: str, write: Callable[[str, str], str]
    ) -> None:
        key = ec.generate_private_key(ec.SECP384R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        of_apple = ("--team-id", "TEAM123456", "--key-id", "KEY1234567", "--topic", "com.example.shop")
        refused = await cli.run("app", "credentials", "set", "apns", write("key.p8", pem), *of_apple)
        assert refused.exit_code == 1
        assert "must be a P-256 private key" in refused.stderr
        assert pem.splitlines()[1] not in refused.output

    @pytest.mark.parametrize(
        ("provider", "text", "options", "told"),
        [
            ("apns", "", ("--team-id", "TEAM123456"), "--key-id, --topic"),
            ("fcm", "not JSON", (), "not the JSON"),
            ("fcm", "[]", (), "not the JSON"),
            ("fcm", "{}", ("--topic", "com.example.shop"), "are for apns"),
        ],
    )
    async def test_wrong_use_ends_with_2(
        self,
        cli: Cli,
        owner: str,
        write: Callable[[str, str], str],
        provider: str,
        text: str,
        options: tuple[str, ...],
        told: str,
    ) -> None:
        result = await cli.run("app", "credentials", "set", provider, write("file", text), *options)
        assert (result.exit_code, told in result.stderr) == (2, True), result.stderr


async def test_without_the_service_a_command_fails_and_says_what_to_look_at(
    bus: Bus, nats_settings: config.Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", nats_settings.url)
    result = await Cli().run("app", "list")
    assert result.exit_code == 1
    assert "does not answer" in result.stderr
