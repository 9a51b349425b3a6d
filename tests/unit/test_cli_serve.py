"""`automata serve`: what is said on the command line are the settings of the process."""

import os
import runpy
from collections.abc import Iterator
from unittest import mock

import msgspec
import pytest
from click.testing import CliRunner

import services.lifecycle.settings
import services.senders.settings
from libs import config
from services.cli.main import main

SETTINGS: dict[str, type[msgspec.Struct]] = {
    "services.senders": services.senders.settings.Settings,
    "services.lifecycle": services.lifecycle.settings.Settings,
}
REQUIRED = {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "AUTOMATA_KEYS__RING_FILE": "/nowhere"}


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """That of a machine where nothing is set; as it was, afterwards."""
    with mock.patch.dict(os.environ, REQUIRED):
        for name in [name for name in os.environ if name.startswith("AUTOMATA_") and name not in REQUIRED]:
            del os.environ[name]
        yield


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, msgspec.Struct]]:
    """The packages that were run as a process, each with the settings that it found."""
    found: list[tuple[str, msgspec.Struct]] = []

    def run_module(name: str, *, run_name: str, alter_sys: bool) -> None:
        assert (run_name, alter_sys) == ("__main__", True)
        found.append((name, config.load(SETTINGS[name])))

    monkeypatch.setattr(runpy, "run_module", run_module)
    return found


def run(*arguments: str) -> None:
    CliRunner().invoke(main, ["serve", *arguments], catch_exceptions=False)


@pytest.mark.parametrize(("channel", "region"), [("apns", "fra"), ("fcm", "icn"), ("apns", "us-east-1")])
def test_a_sender_takes_its_channel_and_region_from_the_command(
    started: list[tuple[str, msgspec.Struct]], channel: str, region: str
) -> None:
    run("sender", "--channel", channel, "--region", region)
    ((package, settings),) = started
    assert package == "services.senders"
    assert isinstance(settings, services.senders.settings.Settings)
    assert (settings.sender.channel, settings.sender.region) == (channel, region)


def test_what_is_not_said_is_as_the_environment_has_it(started: list[tuple[str, msgspec.Struct]]) -> None:
    os.environ.update({"AUTOMATA_SENDER__CHANNEL": "fcm", "AUTOMATA_SENDER__REGION": "icn"})
    run("sender")
    run("sender", "--region", "fra")
    found = [(each.sender.channel, each.sender.region) for each in senders(started)]
    assert found == [("fcm", "icn"), ("fcm", "fra")]


def senders(started: list[tuple[str, msgspec.Struct]]) -> Iterator[services.senders.settings.Settings]:
    for _, settings in started:
        assert isinstance(settings, services.senders.settings.Settings)
        yield settings


def test_a_sender_without_a_region_is_of_the_local_one(started: list[tuple[str, msgspec.Struct]]) -> None:
    run("sender", "--channel", "apns")
    assert [each.sender.region for each in senders(started)] == ["local"]


@pytest.mark.parametrize("region", ["FRA", "fra.1", "fra,icn", "*", ""])
def test_a_region_that_is_no_part_of_a_subject_is_named(started: list[tuple[str, msgspec.Struct]], region: str) -> None:
    with pytest.raises(config.SettingsError, match="AUTOMATA_SENDER__REGION"):
        run("sender", "--channel", "apns", "--region", region)
    assert started == []


def test_one_duty_of_lifecycle_is_its_setting(started: list[tuple[str, msgspec.Struct]]) -> None:
    run("lifecycle", "--only", "timekeeper")
    ((package, settings),) = started
    assert package == "services.lifecycle"
    assert isinstance(settings, services.lifecycle.settings.Settings)
    assert settings.lifecycle.only == "timekeeper"
