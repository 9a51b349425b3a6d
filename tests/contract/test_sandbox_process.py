"""The sandbox as a process: its files are private, its credentials last, and it starts and stops as told."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography import x509

from services.sandbox.credentials import make_tls
from services.sandbox.ledger import KnownIds
from tests.contract.sandbox_server import DEVICE, PROJECT, SandboxServer, running_sandbox


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_tls_files_are_private_and_the_authority_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "tls"
    first = make_tls(directory, ["127.0.0.1", "localhost"])
    authority, certificate = first.ca.read_bytes(), first.cert.read_bytes()
    assert mode(directory) == 0o700
    assert {mode(path) for path in directory.iterdir()} == {0o600}
    again = make_tls(directory, ["127.0.0.1", "sandbox"])
    assert (again.ca.read_bytes(), again.cert.read_bytes() == certificate) == (authority, False)
    names = x509.load_pem_x509_certificate(again.cert.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert names.value.get_values_for_type(x509.DNSName) == ["sandbox"]


async def test_everything_survives_a_restart_but_what_arrived(tmp_path: Path) -> None:
    server = SandboxServer(tmp_path / "data")
    server.start()
    async with server.client() as client:
        token = await server.access_token(client)
    logged = server.stop()
    assert server.process is not None
    assert server.process.returncode == 0
    assert token.encode() not in logged
    server.start()
    async with server.client() as client:  # The same authority, the same access token.
        headers = {"authorization": f"Bearer {token}"}
        answer = await client.post(
            f"/v1/projects/{PROJECT}/messages:send", json={"message": {"token": "t"}}, headers=headers
        )
    server.stop()
    assert answer.status_code == 200
    assert {mode(path) for path in (tmp_path / "data").iterdir() if path.name != "tenants.json"} == {0o600}


async def test_it_stops_in_time_while_requests_hang(tmp_path: Path) -> None:
    server = SandboxServer(tmp_path)
    server.start()
    async with server.client() as client, server.ask() as ask:
        await ask.put("/v1/faults", json=[{"provider": "apns", "hang": True}])
        path = f"/3/device/{DEVICE}"
        hung = asyncio.create_task(client.post(path, headers=server.apns_headers(), json={"aps": {}}))
        while not (await ask.get("/v1/stats")).json()["apns"]["requests"]:
            continue
        await asyncio.to_thread(server.stop)
        with pytest.raises(httpx.TransportError):
            await hung
    assert server.process is not None
    assert server.process.returncode == 0


def test_a_taken_port_stops_the_start_and_is_named(tmp_path: Path) -> None:
    server = SandboxServer(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", server.tls_port))
        other.listen()
        done = subprocess.run(
            [sys.executable, "-m", "services.sandbox"],
            env=server.environment,
            capture_output=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert str(server.tls_port).encode() in done.stderr


@pytest.mark.parametrize("value", ["", "0", "70000", "high"])
def test_a_bad_setting_is_named(tmp_path: Path, value: str) -> None:
    environment = SandboxServer(tmp_path).environment | {"AUTOMATA_SANDBOX__TLS_PORT": value}
    done = subprocess.run(
        [sys.executable, "-m", "services.sandbox"], env=environment, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert b"AUTOMATA_SANDBOX__TLS_PORT" in done.stderr


def test_it_ends_with_the_parent_it_was_given(tmp_path: Path) -> None:
    server = SandboxServer(tmp_path)
    # The parent starts a sandbox, and is killed.
    code = (
        "import os, subprocess, sys\n"
        "os.environ['AUTOMATA_SANDBOX__PARENT_PID'] = str(os.getpid())\n"
        "subprocess.Popen([sys.executable, '-m', 'services.sandbox'])\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=server.environment,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as parent:
        assert parent.stderr is not None
        assert b"sandbox_ready" in parent.stderr.readline()
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        assert parent.stderr.read() == b""  # The pipe ends when the sandbox does.


async def test_many_connections_leave_no_descriptors_behind(tmp_path: Path) -> None:
    with running_sandbox(tmp_path) as server:
        assert server.process is not None
        process = psutil.Process(server.process.pid)

        async def connect(times: int) -> int:
            for _ in range(times):
                async with server.client() as client:
                    path = f"/3/device/{DEVICE}"
                    answer = await client.post(path, headers=server.apns_headers(), json={"aps": {}})
                    assert answer.status_code == 200
            return int(process.num_fds())

        before = await connect(3)
        assert await connect(30) <= before + 3


def test_known_ids_count_exactly_and_stay_within_their_capacity() -> None:
    known = KnownIds(1000)
    for times in (1, 2, 3):
        assert {known.add(f"id-{number}", 7) for number in range(1000)} == {times}
    assert known.add("id-1", 8) == 0, "another provider's id is another id, and there is no room"
    assert known.add("id-1", 7) == 4
    for _ in range(300):
        known.add("id-2", 7)
    assert known.add("id-2", 7) == 255
