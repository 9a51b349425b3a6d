"""The commands' manners: help that teaches, errors that say what to do, exit codes 0, 1 and 2."""

import io
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from libs.api.messages import Event, Timeline
from libs.events import PublishedEvent
from services.cli import tail, timeline
from services.cli.main import COMMANDS, HIDDEN, main


@pytest.fixture(autouse=True)
def nothing_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTOMATA_API_URL", "AUTOMATA_API_KEY", "AUTOMATA_DATA_DIR", "DATABASE_URL", "NATS_URL"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="automata")


def test_help_lists_every_command_with_examples() -> None:
    text = run("--help").output
    assert all(name in text for name in COMMANDS if name not in HIDDEN)
    assert "automata up --demo" in text


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"bench"}))
def test_every_command_explains_itself(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Usage: automata" in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("up", "--port-base", "70000"),
        ("up", "--env-for", "nats", "NOVALUE"),
        ("serve", "nonsense"),
        ("serve", "ingest", "--channel", "apns"),
        ("serve", "sender", "--only", "relay"),
        ("send", "--title", "no receiver"),
        ("send", "--subscription", "a", "--type", "iOSPush", "--token", "b", "--title", "two receivers"),
        ("send", "--subscription", "a"),
        ("send", "--subscription", "a", "--title", "t", "--data", "[1]"),
        ("send", "--subscription", "a", "--title", "t", "--data", "{"),
        ("events", "show"),
        ("resend", "--since", "yesterday"),
        ("resend", "--status", "sent"),
        ("keys", "add"),
        ("keys", "retire"),
        ("backup",),
        ("restore", "/nowhere"),
        ("migrate",),
    ],
)
def test_wrong_use_ends_with_2(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("given", "missing"), [("AUTOMATA_API_URL", "AUTOMATA_API_KEY"), ("AUTOMATA_API_KEY", "AUTOMATA_API_URL")]
)
def test_a_key_never_goes_to_an_api_that_it_was_not_given_for(
    given: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(given, "http://127.0.0.1:1")
    result = run("send", "--subscription", "a", "--title", "t")
    assert result.exit_code == 2
    assert missing in result.output


def test_migrate_names_the_variable_that_is_missing() -> None:
    assert "DATABASE_URL" in run("migrate").output


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("send", "--subscription", "a", "--title", "t"),
        ("events", "show", "a"),
        ("resend", "--yes"),
        ("tail",),
        ("projections", "rebuild"),
        ("demo",),
        ("stop", "dispatcher"),
        ("start", "dispatcher"),
        ("keys", "status"),
        ("keys", "rotate"),
        ("keys", "retire", "k1"),
        ("backup", "/tmp/nowhere"),
    ],
)
def test_without_an_installation_a_command_fails_and_says_how_to_start_one(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    result = run(*arguments, "--data-dir", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "automata up" in result.output


def test_down_is_content_when_nothing_runs(tmp_path: Path) -> None:
    assert run("down", "--data-dir", str(tmp_path / "none")).exit_code == 0


def test_version_is_that_of_the_distribution() -> None:
    assert run("version").output.strip().count(".") == 2


def shown(found: Timeline) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(timeline.table(found))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_timeline_tells_what_when_and_why() -> None:
    created = Event("created", "2026-01-01T00:00:00.000Z", 0, None, {}, "Accepted")
    failed = Event("failed", "2026-01-01T00:00:01.500Z", 1, "Unregistered", {}, "")
    text = shown(Timeline(id="m1", status="failed", why="The token is no more", events=[created, failed]))
    assert "Message m1: failed" in text
    assert "Accepted" in text
    assert "+1.500 s" in text
    assert "Unregistered" in text
    assert "The token is no more" in text


def test_a_timeline_says_when_the_next_attempt_is() -> None:
    moment = "2026-01-01T00:02:00.000Z"
    text = shown(Timeline(id="m1", status="errored", why="", events=[], next_attempt_at=moment))
    assert "2026-01-01T00:02:00.000Z" in text


def test_a_followed_event_is_a_line_for_people_and_an_object_for_programs() -> None:
    event = PublishedEvent(1, "2", 3, "m1", "errored", 1, "k", datetime(2026, 1, 1, tzinfo=UTC), "timeout")
    assert tail.as_line(event) == "2026-01-01 00:00:00.000  m1  errored    #1  timeout"
    assert msgspec.json.decode(tail.as_object("a1", event))["application_id"] == "a1"


@pytest.mark.parametrize(
    "regions",
    [["ICN"], ["icn=kr"], ["icn=KR", "icn=DE"], ["icn=KR", "fra=KR"], ["se.oul=KR"], ["=KR"], ["icn=KR;DE"]],
)
def test_regions_that_cannot_be_are_refused_before_anything_starts(tmp_path: Path, regions: list[str]) -> None:
    arguments = [part for region in regions for part in ("--region", region)]
    result = run("up", "--data-dir", str(tmp_path / "data"), *arguments)
    assert result.exit_code == 2
    assert "--region" in result.output
    assert not (tmp_path / "data").exists()
