"""Backup, more work, a crash, a restore into a new directory: nothing is sent twice, nobody comes back, no gap."""

import asyncio
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import asyncpg
import httpx
import pytest
from click.testing import CliRunner

from libs.bus import Bus
from libs.config import Nats
from libs.events import PublishedEvent, decode_batch
from libs.subjects import EVENTS, events
from libs.subscribe import stored
from services.cli.main import main
from services.cli.old_streams import read_erasures
from tests.e2e.test_up import Installation, gone, until

pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("backup")]
TITLE = "Only for Alice"
Place = tuple[int, int, int]
"""(epoch, txid, position)."""


class Api:
    """The REST API and the sandbox of one installation."""

    def __init__(self, up: Installation) -> None:
        runtime = up.runtime
        self._rest = httpx.Client(base_url=f"{runtime['api_url']}/api/v1", headers={"X-API-Key": runtime["api_key"]})
        self._sandbox = runtime["sandbox_url"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._rest.close()

    def post(self, path: str, body: dict[str, Any], code: int = 201) -> Any:
        answer = self._rest.post(path, json=body)
        assert answer.status_code == code, answer.text
        return answer.json()["data"]

    def get(self, path: str) -> Any:
        answer = self._rest.get(path)
        return answer.json()["data"] if answer.status_code == 200 else answer.status_code

    def delete(self, path: str) -> Any:
        answer = self._rest.delete(path)
        assert answer.status_code in (200, 202), answer.text
        return answer.json()["data"]

    def register(self, kind: str, token: str) -> str:
        return str(self.post("/subscriptions", {"type": kind, "token": token})["subscription_id"])

    def send(self, subscription_id: str, title: str) -> str:
        return str(self.post("/messages", {"subscription_id": subscription_id, "title": title})["message_id"])

    def is_status(self, message_id: str, status: str) -> bool:
        found = self.get(f"/messages/{message_id}")
        return isinstance(found, dict) and found["status"] == status

    def accepted(self) -> Counter[str]:
        """Message ids that the providers were given and took, with how often."""
        lines = httpx.get(f"{self._sandbox}/v1/ledger").text.splitlines()
        return Counter(entry["message_id"] for entry in map(json.loads, lines) if entry["accepted"])


class Story(NamedTuple):
    """What is left when everything has happened; `new` runs."""

    old: Installation
    new: Installation
    backup: Path
    restored: dict[str, Any]
    """The answer of `automata restore`."""
    alice: str
    bob: str
    messages: dict[str, str]
    """What it was, to its id."""
    sent_before: Counter[str]
    relayed_before: list[Place]


def place_of(event: PublishedEvent) -> Place:
    return (event.epoch, int(event.txid), event.position)


def relayed(up: Installation) -> list[Place]:
    """All that subscribers of EVENTS were given, in the order of the stream."""

    async def read() -> list[Place]:
        bus = await Bus.connect(Nats(url=up.runtime["nats_url"]), "test")
        try:
            found = [decode_batch(message.data) async for message in stored(bus, EVENTS, events("*"))]
        finally:
            await bus.close()
        return [place_of(event) for batch in found for event in batch.events]

    return asyncio.run(read())


def rows(up: Installation, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    async def read() -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(up.runtime["postgres_dsn"])
        try:
            return [tuple(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    return asyncio.run(read())


def log_of(up: Installation) -> list[Place]:
    query = "SELECT epoch, txid::text, position FROM lifecycle.message_events ORDER BY epoch, txid, position"
    return [(epoch, int(txid), position) for epoch, txid, position in rows(up, query)]


def crash(up: Installation) -> None:
    pids = up.pids()
    up.supervisor().kill()
    until(lambda: gone(pids), "everything is gone")


def erasures_of(up: Installation, beside: Path) -> int:
    text = up.run("backup", "--erasures-only", str(beside.with_name("erasures.json")), "--json")
    return int(json.loads(text)["erasures"])


def erasures_told(up: Installation) -> int:
    async def read() -> int:
        bus = await Bus.connect(Nats(url=up.runtime["nats_url"]), "test")
        try:
            return len(await read_erasures(bus))
        finally:
            await bus.close()

    return asyncio.run(read())


def before_the_crash(old: Installation, backup: Path) -> Story:
    """Alice and Bob get a message each. One more to Bob, and one to an Android phone, are unfinished at the backup."""
    old.run("up", "--detach")
    with Api(old) as api:
        alice, bob = api.register("iOSPush", "a1" * 32), api.register("iOSPush", "b0" * 32)
        android = api.register("AndroidPush", "android-token-of-nobody")
        api.post("/users/identify", {"external_id": "alice", "subscriptions": [alice]}, 200)
        messages = {"to alice": api.send(alice, TITLE), "to bob": api.send(bob, "Before")}
        until(lambda: all(api.is_status(each, "successful") for each in messages.values()), "both are sent")
        old.run("stop", "sender-apns")
        old.run("stop", "sender-fcm")
        messages |= {"sent later": api.send(bob, "Open"), "never known": api.send(android, "Open too")}
        old.run("backup", str(backup))
        old.run("start", "sender-apns")
        until(lambda: api.is_status(messages["sent later"], "successful"), "the open one is sent")
        messages["after"] = api.send(bob, "After")
        until(lambda: api.is_status(messages["after"], "successful"), "the last one is sent")
        api.delete("/users/alice")
        assert erasures_of(old, backup) == 1
        until(lambda: erasures_told(old) == 1, "the stream ERASURES says that Alice is forgotten")
        sent = api.accepted()
    known = len(log_of(old))
    until(lambda: len(relayed(old)) >= known, "subscribers have been told")
    return Story(old, old, backup, {}, alice, bob, messages, sent, relayed(old))


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    homes = [Path(tempfile.mkdtemp(prefix="signal-restore-")) for _ in range(2)]
    old, new = (Installation(home) for home in homes)
    try:
        begun = before_the_crash(old, homes[0] / "backup")
        crash(old)
        restored = json.loads(new.run("restore", str(begun.backup), "--from", str(old.path), "--json"))
        new.run("up", "--detach")
        yield begun._replace(new=new, restored=restored)
    finally:
        for installation in (old, new):
            installation.run("down")
        for home in homes:
            shutil.rmtree(home)


def test_the_epoch_has_risen_and_the_answer_says_what_was_done(story: Story) -> None:
    assert rows(story.new, "SELECT max(epoch) FROM lifecycle.epochs") == [(2,)]
    found = story.restored
    assert (found["epoch"], found["history"], found["missing"], found["unknown"]) == (2, "whole", 1, 1)
    assert (found["erasures"], found["erasures_known"]) == (1, 1)
    assert found["learned"] >= 1
    assert found["erasures_until"] > found["taken_at"]


def test_what_happened_after_the_backup_is_known(story: Story) -> None:
    with Api(story.new) as api:
        assert api.is_status(story.messages["to bob"], "successful")
        assert api.is_status(story.messages["sent later"], "successful")
        assert api.get(f"/messages/{story.messages['after']}") == 404


def test_what_cannot_be_known_is_not_sent_until_a_person_says_so(story: Story) -> None:
    message_id = story.messages["never known"]
    old_work = (
        "SELECT count(*) FROM lifecycle.handoffs WHERE created_at < (SELECT max(started_at) FROM lifecycle.epochs)"
    )
    assert rows(story.new, old_work) == [(0,)]
    with Api(story.new) as api:
        unknown = api.get(f"/messages/{message_id}")
        assert (unknown["status"], unknown["reason"]) == ("failed", "restored_unknown")
        assert "backup of 20" in " ".join(story.new.run("events", "show", message_id).split())
        assert api.accepted()[message_id] == 0
        api.post(f"/messages/{message_id}/resend", {}, 200)
        until(lambda: api.is_status(message_id, "successful"), "a person may send it again")


def test_who_was_erased_after_the_backup_is_unreadable(story: Story) -> None:
    with Api(story.new) as api:
        assert api.get("/users/alice") == 404
        assert api.get(f"/subscriptions/{story.alice}") == 404
        found = api.get(f"/messages/{story.messages['to alice']}")
        assert found["status"] == "successful"  # counts stay
        assert TITLE not in json.dumps(found)
    keys = "SELECT id FROM subscription.subscriptions WHERE id = $1 AND wrapped_key IS NOT NULL"
    assert rows(story.new, keys, story.alice) == []
    assert rows(story.new, "SELECT count(*) FROM subscription.data_keys") == [(0,)]


def test_who_follows_the_events_misses_nothing_and_sees_each_once_in_order(story: Story) -> None:
    log = log_of(story.new)
    until(lambda: log[-1] in relayed(story.new), "the relay has caught up")
    after = relayed(story.new)
    assert after == sorted(set(after))
    assert set(log) <= {*story.relayed_before, *after}  # tests that came before this one may have sent more
    at = max(story.relayed_before)
    missed = [place for place in log if place > at]
    assert [place for place in after if place > at][: len(missed)] == missed != []


def test_nothing_is_sent_twice_and_work_goes_on(story: Story) -> None:
    with Api(story.new) as api:
        fresh = api.send(story.bob, "New")
        until(lambda: api.is_status(fresh, "successful"), "a new message is sent")
        times = story.sent_before + api.accepted()
    assert {*story.messages.values(), fresh} - set(times) <= {story.messages["never known"]}
    assert set(times.values()) == {1}


def refused(*arguments: object) -> str:
    umask = os.umask(0o077)
    try:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    finally:
        os.umask(umask)
    assert result.exit_code == 1, result.output
    return result.output


def test_the_old_installation_does_not_start_again(story: Story) -> None:
    assert "twice" in refused("up", "--data-dir", story.old.path)


def test_a_backup_is_closed_to_others_and_says_what_it_is(story: Story) -> None:
    assert [str(path) for path in story.backup.rglob("*") if path.stat().st_mode & 0o077] == []
    assert json.loads((story.backup / "backup.json").read_bytes())["epoch"] == 1


def test_a_damaged_backup_is_refused_and_leaves_nothing(story: Story, tmp_path: Path) -> None:
    broken, target = tmp_path / "broken", tmp_path / "new"
    shutil.copytree(story.backup, broken)
    with (broken / "postgres" / "base.tar.gz").open("r+b") as archive:
        archive.seek(100_000)
        archive.write(b"damage")
    assert "damaged" in refused("restore", broken, "--data-dir", target)
    assert list(tmp_path.iterdir()) == [broken]


def test_nothing_is_written_over_and_nothing_taken_from_what_runs(story: Story, tmp_path: Path) -> None:
    assert "not empty" in refused("restore", story.backup, "--data-dir", story.new.path)
    assert "not empty" in refused("backup", story.backup, "--data-dir", story.new.path)
    assert "not a backup" in refused("restore", tmp_path, "--data-dir", tmp_path / "new")
    target = tmp_path / "new"
    assert "is running" in refused("restore", story.backup, "--from", story.new.path, "--data-dir", target)
    assert "no streams" in refused("restore", story.backup, "--from", tmp_path, "--data-dir", target)
    assert list(tmp_path.iterdir()) == []


def test_the_keys_of_what_runs_are_rotated_by_one_command(story: Story) -> None:
    assert json.loads(story.new.run("keys", "rotate", "--json"))["active"] == "k2"
    found = json.loads(story.new.run("keys", "status", "--json"))
    wraps = {key["name"]: sum(key["wraps"].values()) for key in found["keys"]}
    assert wraps["k1"] == 0 < wraps["k2"]
    assert {(process["service"], process["active"]) for process in found["processes"]} == {
        (service, "k2") for service in ("application", "subscription", "lifecycle", "dispatcher")
    }
    with Api(story.new) as api:
        assert api.get(f"/messages/{story.messages['to bob']}")["title"] == "Before"
        fresh = api.send(story.bob, "Under the new key")
        until(lambda: api.is_status(fresh, "successful"), "it is sent")
