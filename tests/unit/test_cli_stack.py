"""What each process of an embedded installation is given: what it needs, and nothing else."""

from pathlib import Path

import msgspec
import pytest

from libs.config import load
from services.cli import datadir
from services.cli.datadir import DataDir
from services.cli.process import Spec
from services.cli.stack import Options, Stack, port_names
from services.dispatcher.settings import Dispatcher
from services.dispatcher.settings import Settings as DispatcherSettings

WITH_DATABASE = {"application", "subscription", "templating", "lifecycle"}
WITH_KEYS = {"application", "subscription", "lifecycle", "dispatcher"}


def made(tmp_path: Path, options: Options) -> Stack:
    data = DataDir(tmp_path / "data")
    data.create()
    return Stack(data, options)


def specs(stack: Stack) -> dict[str, list[Spec]]:
    """The processes that are Python programs of ours, by name."""
    found: dict[str, list[Spec]] = {}
    for spec in [stack._sandbox(), *(spec for group in stack.services() for spec in group)]:
        found.setdefault(spec.name, []).append(spec)
    return found


def test_only_owners_of_data_get_a_database_each_its_own(tmp_path: Path) -> None:
    found = specs(made(tmp_path, Options()))
    files = {name: group[0].env.get("DATABASE_URL_FILE") for name, group in found.items()}
    assert {name for name, file in files.items() if file} == WITH_DATABASE
    roles = {name: Path(file).read_text().split("//")[1].split(":")[0] for name, file in files.items() if file}
    assert roles == {name: f"automata_{name}" for name in WITH_DATABASE}


def test_only_those_that_open_content_or_tokens_get_the_key_ring(tmp_path: Path) -> None:
    found = specs(made(tmp_path, Options()))
    assert {name for name, group in found.items() if "AUTOMATA_KEYS__RING_FILE" in group[0].env} == WITH_KEYS


def test_no_secret_is_on_a_command_line_or_in_an_environment(tmp_path: Path) -> None:
    stack = made(tmp_path, Options())
    secrets = [stack.passwords.postgres, stack.passwords.nats, *stack.passwords.roles.values()]
    for group in specs(stack).values():
        visible = " ".join([*group[0].argv, *group[0].env.values()])
        assert not any(secret in visible for secret in secrets), group[0].name


def test_settings_of_the_caller_reach_the_services_but_addresses_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOMATA_RETRY__SCALE", "0.02")
    monkeypatch.setenv("DATABASE_URL", "postgresql://elsewhere")
    monkeypatch.setenv("AUTOMATA_NATS__URL", "nats://elsewhere")
    for group in specs(made(tmp_path, Options())).values():
        assert group[0].env["AUTOMATA_RETRY__SCALE"] == "0.02"
        assert "elsewhere" not in "".join(group[0].env.values())


def test_an_override_reaches_its_process_alone(tmp_path: Path) -> None:
    found = specs(made(tmp_path, Options(overrides={"dispatcher": {"FAKETIME": "+300s"}})))
    assert {name for name, group in found.items() if "FAKETIME" in group[0].env} == {"dispatcher"}


def test_workers_share_the_port_of_the_api_and_have_health_ports_of_their_own(tmp_path: Path) -> None:
    found = specs(made(tmp_path, Options(workers=3)))["ingest"]
    assert [spec.env["AUTOMATA_HTTP__REUSE_PORT"] for spec in found] == ["true"] * 3
    assert len({spec.env["AUTOMATA_HTTP__PORT"] for spec in found}) == 1
    assert len({spec.env["AUTOMATA_HEALTH__PORT"] for spec in found}) == 3


def test_each_region_has_a_sender_of_each_channel_and_the_dispatcher_knows_its_countries(tmp_path: Path) -> None:
    found = specs(made(tmp_path, Options(regions={"icn": ["KR", "JP"], "fra": ["DE"]})))
    senders = {name: group[0].env["AUTOMATA_SENDER__REGION"] for name, group in found.items() if "sender" in name}
    assert senders == {f"sender-{channel}-{region}": region for channel in ("apns", "fcm") for region in ("icn", "fra")}
    env = {**found["dispatcher"][0].env}
    assert load(DispatcherSettings, env).dispatcher == Dispatcher("icn", {"KR": "icn", "JP": "icn", "DE": "fra"})


def test_without_regions_everything_is_as_it_always_was(tmp_path: Path) -> None:
    found = specs(made(tmp_path, Options()))
    assert {name for name in found if "sender" in name} == {"sender-apns", "sender-fcm"}
    assert load(DispatcherSettings, found["dispatcher"][0].env).dispatcher == Dispatcher()
    assert found["sender-apns"][0].env["AUTOMATA_SENDER__REGION"] == "local"


def test_several_senders_share_a_name_and_have_health_ports_of_their_own(tmp_path: Path) -> None:
    found = specs(made(tmp_path, Options(senders=3)))
    assert len(found["sender-apns"]) == len(found["sender-fcm"]) == 3
    ports = [spec.env["AUTOMATA_HEALTH__PORT"] for name in ("sender-apns", "sender-fcm") for spec in found[name]]
    assert len(set(ports)) == 6


def test_a_port_base_begins_with_the_api_and_the_sandbox() -> None:
    assert port_names(Options())[:2] == ("api", "sandbox")


def test_the_second_start_has_the_same_ports_passwords_and_key_ring(tmp_path: Path) -> None:
    first, second = made(tmp_path, Options()), made(tmp_path, Options())
    assert second.ports == first.ports
    assert second.passwords == first.passwords
    assert second.credentials == first.credentials


def test_the_service_account_follows_the_sandbox_to_another_port(tmp_path: Path) -> None:
    first = made(tmp_path, Options())
    first.data.ports_file.unlink()
    second = made(tmp_path, Options())
    token_uri = second.credentials.private["fcm"]["token_uri"]
    assert token_uri == f"https://127.0.0.1:{second.ports['sandbox-tls']}/token"
    assert second.credentials.private["fcm"]["private_key"] == first.credentials.private["fcm"]["private_key"]


def test_a_directory_older_than_a_service_keeps_its_passwords_and_gets_one_more(tmp_path: Path) -> None:
    first = made(tmp_path, Options())
    older = {role: word for role, word in first.passwords.roles.items() if role != "templating"}
    datadir.write(first.data.secrets / "passwords.json", msgspec.structs.replace(first.passwords, roles=older))
    second, third = made(tmp_path, Options()), made(tmp_path, Options())
    assert {**second.passwords.roles, **older} == second.passwords.roles
    assert second.passwords.roles.keys() == first.passwords.roles.keys()
    assert second.passwords.postgres == first.passwords.postgres
    assert third.passwords == second.passwords
