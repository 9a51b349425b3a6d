"""`automata up` as its user runs it: one command, real processes, real signals."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from services.cli.probe import answers_ok
from services.cli.vault import ROLES, Passwords

AUTOMATA = Path(sys.executable).with_name("automata")
IOS_TOKEN = "c7" * 32
NAMES = {
    "postgres", "nats", "sandbox", "ingest", "application", "subscription", "templating", "lifecycle", "dispatcher",
    "sender-apns", "sender-fcm",
}  # fmt: skip
pytestmark = [pytest.mark.timeout(300), pytest.mark.xdist_group("up")]


class Installation:
    """A data directory below one that only its owner may enter, as a home directory may be."""

    def __init__(self, home: Path) -> None:
        home.chmod(0o700)
        self.path = home / "data"

    def run(self, *arguments: str, code: int = 0) -> str:
        """The standard output of `automata … --data-dir DIR`; fails unless it ends with `code`."""
        command = [str(AUTOMATA), *arguments, "--data-dir", str(self.path)]
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as complaint:
            done = subprocess.run(command, stdout=output, stderr=complaint, timeout=200, check=False)
            output.seek(0)
            complaint.seek(0)
            text, trouble = output.read(), complaint.read()
        assert done.returncode == code, f"{command} ended with {done.returncode}:\n{text}\n{trouble}"
        return text + trouble

    @property
    def runtime(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "runtime.json").read_bytes())
        return found

    def pids(self) -> list[int]:
        return [pid for group in self.runtime["processes"].values() for pid in group]

    def supervisor(self) -> psutil.Process:
        """The parent of all."""
        (parent,) = {psutil.Process(pid).ppid() for pid in self.pids()}
        return psutil.Process(parent)


@pytest.fixture(scope="module")
def up() -> Iterator[Installation]:
    home = Path(tempfile.mkdtemp(prefix="signal-up-"))
    installation = Installation(home)
    try:
        installation.run("up", "--detach")
        yield installation
    finally:
        installation.run("down")
        shutil.rmtree(home)


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def is_ready(up: Installation) -> bool:
    """By `status`, which fails while one of them is not."""
    done = subprocess.run([AUTOMATA, "status", "--data-dir", up.path], capture_output=True, check=False)
    return done.returncode == 0


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


def test_runtime_json_says_where_everything_is(up: Installation) -> None:
    runtime = up.runtime
    assert set(runtime["processes"]) == NAMES
    assert all(psutil.pid_exists(pid) for pid in up.pids())
    assert runtime["api_url"].startswith("http://127.0.0.1:")
    assert runtime["postgres_dsn"].endswith("/automata")
    assert {"api_url", "sandbox_url", "application_id", "api_key", "postgres_dsn", "nats_url"} <= set(runtime)


async def test_everything_is_ready_when_up_returns(up: Installation) -> None:
    urls = [url for group in up.runtime["health"].values() for url in group]
    assert len(urls) == len(NAMES - {"postgres", "nats"})
    assert all([await answers_ok(f"{url}/readyz") for url in urls])


def test_a_message_sent_by_the_cli_arrives_and_tells_its_story(up: Installation) -> None:
    text = up.run("send", "--type", "iOSPush", "--token", IOS_TOKEN, "--title", "Hello")
    assert "successful" in text
    message_id = text.split("accepted: ")[1].split()[0]
    shown = json.loads(up.run("events", "show", message_id, "--json"))
    assert {"created", "sent"} <= {event["event_type"] for event in shown["events"]}


def test_tail_follows_events_from_now_on(up: Installation) -> None:
    command = [str(AUTOMATA), "tail", "--json", "--data-dir", str(up.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stderr is not None
        assert following.stdout is not None
        assert "following" in following.stderr.readline()
        text = up.run("send", "--type", "iOSPush", "--token", IOS_TOKEN, "--title", "Followed")
        message_id = text.split("accepted: ")[1].split()[0]
        line = next(line for line in following.stdout if message_id in line)
        following.send_signal(signal.SIGINT)
        following.communicate()
    assert json.loads(line)["kind"] == "created"


def test_a_second_up_on_the_same_directory_is_refused(up: Installation) -> None:
    assert "already running" in up.run("up", code=1)
    assert "already running" in up.run("up", "--detach", code=1)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_killed_process_is_back_within_seconds(up: Installation, name: str) -> None:
    killed = up.runtime["processes"][name]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    until(lambda: set(up.runtime["processes"][name]) - set(killed), f"{name} has another process", 10)
    until(lambda: is_ready(up), "everything is ready again")
    assert "successful" in up.run("send", "--type", "iOSPush", "--token", IOS_TOKEN, "--title", name)


def test_a_stopped_process_stays_down_until_it_is_started(up: Installation) -> None:
    up.run("stop", "dispatcher")
    try:
        assert up.runtime["processes"]["dispatcher"] == []
        assert "held" in up.run("status", code=1)
    finally:
        up.run("start", "dispatcher")
    assert is_ready(up)


def test_an_unknown_process_cannot_be_stopped(up: Installation) -> None:
    assert "no process called nonsense" in up.run("stop", "nonsense", code=1)


def test_files_are_closed_to_others(up: Installation) -> None:
    open_to_others = [str(path) for path in up.path.rglob("*") if path.lstat().st_mode & 0o077]
    assert open_to_others == []
    assert up.path.stat().st_mode & 0o077 == 0


def test_no_secret_is_seen_by_ps_or_written_to_a_log(up: Installation) -> None:
    passwords = msgspec.json.decode((up.path / "secrets" / "passwords.json").read_bytes(), type=Passwords)
    ring = json.loads((up.path / "secrets" / "ring.json").read_bytes())
    secrets = [passwords.postgres, passwords.nats, passwords.nats_store, *(passwords.roles[role] for role in ROLES)]
    secrets += [up.runtime["api_key"], ring["index"], *ring["keys"].values()]
    logs = {path.name: path.read_text(errors="replace") for path in (up.path / "logs").iterdir()}
    processes = [process for pid in up.pids() for process in (psutil.Process(pid), *psutil.Process(pid).children())]
    seen = {f"ps {process.pid}": " ".join([*process.cmdline(), *process.environ().values()]) for process in processes}
    found = [place for place, text in (logs | seen).items() for secret in secrets if secret in text]
    assert found == []


def test_up_again_goes_on_with_key_ports_and_data(up: Installation) -> None:
    before, pids = up.runtime, up.pids()
    message_id = up.run("send", "--type", "iOSPush", "--token", IOS_TOKEN, "--title", "Kept").split("accepted: ")[1]
    up.run("down")
    assert gone(pids)
    assert not (up.path / "runtime.json").exists()
    up.run("up", "--detach")
    after = up.runtime
    for name in ("api_url", "sandbox_url", "application_id", "api_key", "postgres_dsn", "nats_url"):
        assert after[name] == before[name]
    assert "sent" in up.run("events", "show", message_id.split()[0])


def test_everything_ends_with_a_killed_supervisor_and_up_starts_again(up: Installation) -> None:
    pids, key = up.pids(), up.runtime["api_key"]
    up.supervisor().kill()
    until(lambda: gone(pids), "its processes are gone")
    up.run("status", code=1)
    up.run("up", "--detach")
    assert up.runtime["api_key"] == key
    assert "successful" in up.run("send", "--type", "iOSPush", "--token", IOS_TOKEN, "--title", "Again")


def test_a_taken_port_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = Installation(tmp_path).run("up", "--port-base", str(port), code=1)
    assert str(port) in text
    assert "--port-base" in text
    assert not (tmp_path / "data" / "runtime.json").exists()


def test_in_the_foreground_with_demonstration_until_sigterm(tmp_path: Path) -> None:
    command = [str(AUTOMATA), "up", "--demo", "--workers", "2", "--data-dir", str(tmp_path / "data")]
    output = tmp_path / "output"
    with output.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as running:
        try:
            until(lambda: "Ctrl-C stops" in output.read_text() or running.poll() is not None, "it is up", 200)
            assert running.poll() is None, output.read_text()
            runtime = Installation(tmp_path).runtime
            assert len(runtime["processes"]["ingest"]) == 2
        finally:
            with contextlib.suppress(ProcessLookupError):
                running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 0, output.read_text()
    text = output.read_text()
    assert runtime["api_key"] in text
    assert text.count(": successful") == 21
    assert ": converted" in text
    assert gone([pid for group in runtime["processes"].values() for pid in group])
