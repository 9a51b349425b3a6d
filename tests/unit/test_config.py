"""Settings from environment variables: what is understood, and how a mistake is told."""

from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from libs.config import Database, Health, Keys, Nats, SettingsError, load
from libs.subjects import Region


class Settings(msgspec.Struct, frozen=True):
    database: Database
    keys: Keys
    nats: Nats = Nats()
    health: Health = Health()


NEEDED = {"DATABASE_URL": "postgresql://host/db", "AUTOMATA_KEYS__RING_FILE": "/ring.json"}


def test_what_is_not_given_has_its_default() -> None:
    settings = load(Settings, NEEDED)
    assert settings == Settings(Database("postgresql://host/db"), Keys("/ring.json"))


def test_each_value_has_the_type_of_its_field() -> None:
    given = {
        "AUTOMATA_DATABASE__POOL": "3",
        "AUTOMATA_NATS__ACK_WAIT": "2.5",
        "AUTOMATA_HEALTH__HOST": "0.0.0.0",
        "AUTOMATA_HEALTH__UNKNOWN": "x",
        "NATS_URL": "nats://other:4222",
    }
    settings = load(Settings, {**NEEDED, **given})
    assert settings.database.pool == 3
    assert settings.nats.ack_wait == 2.5
    assert settings.nats.url == "nats://other:4222"
    assert settings.health.host == "0.0.0.0"


def test_our_own_name_goes_before_the_common_one() -> None:
    settings = load(Settings, {**NEEDED, "AUTOMATA_DATABASE__URL": "postgresql://own/db"})
    assert settings.database.url == "postgresql://own/db"


@pytest.mark.parametrize("name", ["DATABASE_URL_FILE", "AUTOMATA_DATABASE__URL_FILE"])
def test_a_secret_may_lie_in_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://file/db\n")
    settings = load(Settings, {"AUTOMATA_KEYS__RING_FILE": "/ring.json", name: str(path)})
    assert settings.database.url == "postgresql://file/db"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"AUTOMATA_KEYS__RING_FILE": "/ring.json"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://host/db"}, "AUTOMATA_KEYS__RING_FILE"),
        ({**NEEDED, "AUTOMATA_DATABASE__POOL": "secret-many"}, "AUTOMATA_DATABASE__POOL"),
        ({**NEEDED, "AUTOMATA_NATS__ACK_WAIT": "secret-soon"}, "AUTOMATA_NATS__ACK_WAIT"),
        ({**NEEDED, "AUTOMATA_HEALTH__PORT": ""}, "AUTOMATA_HEALTH__PORT"),
        ({**NEEDED, "AUTOMATA_NATS__URL_FILE": "/nonexistent"}, "AUTOMATA_NATS__URL_FILE"),
    ],
)
def test_a_mistake_names_its_variable_and_shows_no_value(given: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(Settings, given)
    assert str(refused.value).startswith(f"{named}: ")
    assert "secret" not in str(refused.value)


class Routing(msgspec.Struct, frozen=True):
    regions: dict[Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$")], Region] = {}


class WithMap(msgspec.Struct, frozen=True):
    dispatcher: Routing = Routing()


@pytest.mark.parametrize("text", ['{"KR": "icn", "DE": "eu-1"}', "KR=icn,DE=eu-1", " KR = icn , DE = eu-1, "])
def test_a_map_is_json_or_short(text: str) -> None:
    settings = load(WithMap, {"AUTOMATA_DISPATCHER__REGIONS": text})
    assert settings.dispatcher.regions == {"KR": "icn", "DE": "eu-1"}


def test_an_empty_map_is_a_map() -> None:
    assert load(WithMap, {"AUTOMATA_DISPATCHER__REGIONS": ""}) == WithMap()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"KR": 1}',
        "KR",
        "KR=a=b",
        "KR=",
        "kr=icn",
        "Hidden=icn",
        "KR=Hidden",
        "KR=hid.den",
        "KR=*",
        "KR=icn,KR=fra",
        '{"KR": "icn\\n"}',
        "KR=-hidden",
        "KR=" + "hidden" * 9,
    ],
)
def test_a_map_that_is_wrong_names_its_variable_and_shows_no_value(text: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(WithMap, {"AUTOMATA_DISPATCHER__REGIONS": text})
    assert str(refused.value).startswith("AUTOMATA_DISPATCHER__REGIONS: ")
    assert "idden" not in str(refused.value)
