"""A real sandbox process on free ports, with credentials it knows, for the sandbox's tests."""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt

from services.sandbox.credentials import make_apns_credential, make_fcm_credential, make_tls

TEAM = "TEAM123456"
TOPIC = "com.example.app"
PROJECT = "demo-project"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
DEVICE = "ab" * 32
START_TIMEOUT = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class SandboxServer:
    """One sandbox process, and what a sender needs to talk to it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.port, self.tls_port = free_port(), free_port()
        self.control = f"http://127.0.0.1:{self.port}"
        self.url = f"https://127.0.0.1:{self.tls_port}"
        self.tls_files = make_tls(data_dir, ["127.0.0.1", "localhost"])
        self.tls = ssl.create_default_context(cafile=str(self.tls_files.ca))
        self.apns, apns_tenant = make_apns_credential(TEAM, TOPIC)
        self.account, fcm_tenant = make_fcm_credential(PROJECT, f"{self.url}/token")
        self.tenants: dict[str, list[dict[str, Any]]] = {"apns": [apns_tenant], "fcm": [fcm_tenant]}
        self.write_tenants()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        prefix = "AUTOMATA_SANDBOX__"
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("AUTOMATA_")},
            f"{prefix}PORT": str(self.port),
            f"{prefix}TLS_PORT": str(self.tls_port),
            f"{prefix}DATA_DIR": str(self.data_dir),
            f"{prefix}TENANTS_FILE": str(self.data_dir / "tenants.json"),
            f"{prefix}MAX_DELIVERIES": "500",
        }

    def write_tenants(self) -> None:
        fresh = self.data_dir / "tenants.new"
        fresh.write_text(json.dumps(self.tenants))
        fresh.replace(self.data_dir / "tenants.json")

    def start(self, **more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.sandbox"],
            env=self.environment | {f"AUTOMATA_SANDBOX__{name.upper()}": value for name, value in more.items()},
            stderr=subprocess.PIPE,
        )
        until = time.monotonic() + START_TIMEOUT
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.control}/readyz", timeout=5):
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"the sandbox did not start: {self.stop()!r}")

    def stop(self) -> bytes:
        """End the process as a supervisor does; returns what it logged."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        _, logged = self.process.communicate(timeout=20)
        return logged

    def client(self, *, http2: bool = True) -> httpx.AsyncClient:
        return httpx.AsyncClient(http2=http2, http1=not http2, verify=self.tls, base_url=self.url, timeout=10)

    def ask(self) -> httpx.AsyncClient:
        """A client of the control API."""
        return httpx.AsyncClient(base_url=self.control, timeout=10)

    def provider_token(self, *, age: float = 0, **claims: Any) -> str:
        key, key_id = self.apns["private_key_pem"], self.apns["key_id"]
        body = {"iss": TEAM, "iat": int(time.time() - age)} | claims
        return jwt.encode(body, key, "ES256", headers={"kid": key_id})

    def apns_headers(self, **changes: str | None) -> dict[str, str]:
        """Good headers with changes; None takes one away. Underscores stand for hyphens."""
        headers: dict[str, str | None] = {
            "authorization": f"bearer {self.provider_token()}",
            "apns-topic": TOPIC,
            "apns-push-type": "alert",
        }
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        return {name: value for name, value in headers.items() if value is not None}

    def assertion(self, **changes: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": self.account["client_email"],
            "scope": SCOPE,
            "aud": self.account["token_uri"],
            "iat": now,
            "exp": now + 3600,
        }
        return jwt.encode(claims | changes, self.account["private_key"], "RS256")

    async def access_token(self, client: httpx.AsyncClient) -> str:
        answer = await client.post("/token", data=token_form(self.assertion()))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])


def token_form(assertion: str) -> dict[str, str]:
    return {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}


@contextmanager
def running_sandbox(data_dir: Path) -> Iterator[SandboxServer]:
    server = SandboxServer(data_dir)
    server.start()
    try:
        yield server
    finally:
        server.stop()
