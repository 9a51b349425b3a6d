"""The senders and the sandbox, each written from the providers' documents, understand one another."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

from libs.clock import SystemClock
from libs.envelope import Delivery
from libs.ids import new_id
from libs.rpc import Credential
from services.senders.apns import ApnsSender
from services.senders.contract import Accepted, Rejected, Sender, TryLater
from services.senders.fcm import FcmSender
from tests.contract.sandbox_server import SandboxServer, running_sandbox
from tests.push_samples import PLAIN, RICH, SILENT, delivery

CHANNELS = ["apns", "fcm"]
APPLICATION = "0199b2d0-7b5c-7000-8000-0000000000cc"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxServer]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as server:
        yield server


class Side:
    """One channel's sender with a credential that the sandbox knows."""

    def __init__(self, channel: str, sandbox: SandboxServer, timeout: float = 10.0) -> None:
        ca, clock = str(sandbox.tls_files.ca), SystemClock()
        self.channel = channel
        self.sandbox = sandbox
        self.sender: Sender
        if channel == "apns":
            self.sender = ApnsSender(sandbox.url, sandbox.url, ca, 2, timeout, clock)
            self.credential = Credential(1, sandbox.apns)
        else:
            self.sender = FcmSender(sandbox.url, ca, 2, timeout, clock)
            self.credential = Credential(1, sandbox.account)

    def sample(self, token: str = "ab" * 32, **changes: Any) -> Delivery:
        fresh: dict[str, Any] = {
            "message_id": new_id(),
            "token": token,
            "deadline_ms": int(time.time() * 1000) + 60_000,
        }
        return delivery(**fresh | changes)

    async def send(self, sample: Delivery) -> object:
        return await self.sender.send(sample, self.credential, APPLICATION)

    def faults(self, *rules: dict[str, Any]) -> None:
        body = json.dumps([{"provider": self.channel} | rule for rule in rules]).encode()
        with urlopen(Request(f"{self.sandbox.control}/v1/faults", body, method="PUT")) as answer:
            assert answer.status < 300

    def arrived(self, message_id: str) -> list[dict[str, Any]]:
        with urlopen(f"{self.sandbox.control}/v1/deliveries?message_id={message_id}") as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found


def side_of(channel: str, sandbox: SandboxServer, **more: float) -> Side:
    side = Side(channel, sandbox, **more)
    side.faults()
    return side


@pytest.mark.parametrize("content", [PLAIN, RICH, SILENT], ids=["plain", "rich", "silent"])
@pytest.mark.parametrize("channel", CHANNELS)
async def test_what_is_sent_arrives_under_the_message_id(channel: str, content: Any, sandbox: SandboxServer) -> None:
    side = side_of(channel, sandbox)
    sample = side.sample(content=content)
    assert isinstance(await side.send(sample), Accepted)
    [arrived] = side.arrived(sample.message_id)
    assert (arrived["provider"], arrived["token"]) == (channel, sample.token)
    await side.sender.close()


@pytest.mark.parametrize(
    ("channel", "token", "reason", "status"),
    [
        ("apns", "dead" + "0" * 60, "Unregistered", -10),
        ("apns", "0bad" + "0" * 60, "BadDeviceToken", -10),
        ("fcm", "unregistered-1", "UNREGISTERED", -10),
        ("fcm", "invalid-1", "INVALID_ARGUMENT", -4),
        ("fcm", "mismatch-1", "SENDER_ID_MISMATCH", -6),
    ],
)
async def test_a_dead_token_disables_the_address(
    channel: str, token: str, reason: str, status: int, sandbox: SandboxServer
) -> None:
    side = side_of(channel, sandbox)
    result = await side.send(side.sample(token=token))
    assert isinstance(result, Rejected)
    assert (result.reason, result.subscription_status) == (reason, status)
    await side.sender.close()


@pytest.mark.parametrize("channel", CHANNELS)
async def test_goaway_in_a_flow_costs_nothing(channel: str, sandbox: SandboxServer) -> None:
    side = side_of(channel, sandbox)
    side.faults({"goaway": 50})
    samples = [side.sample() for _ in range(300)]
    results = await asyncio.gather(*(side.send(sample) for sample in samples))
    assert [result for result in results if not isinstance(result, Accepted)] == []
    side.faults()
    await side.sender.close()


@pytest.mark.parametrize("channel", CHANNELS)
async def test_an_outage_is_told_with_its_wait(channel: str, sandbox: SandboxServer) -> None:
    side = side_of(channel, sandbox)
    side.faults({"status": 503, "retry_after": 5})
    result = await side.send(side.sample())
    assert isinstance(result, TryLater)
    assert (result.retry_class, result.retry_after, result.unknown) == ("outage", 5.0, False)
    side.faults()
    await side.sender.close()


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_provider_that_hangs_leaves_the_outcome_unknown(channel: str, sandbox: SandboxServer) -> None:
    side = side_of(channel, sandbox, timeout=1.0)
    await side.send(side.sample())
    side.faults({"hang": True})
    assert await side.send(side.sample()) == TryLater("timeout", "network", unknown=True)
    side.faults()
    await side.sender.close()


@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_foreign_key_is_a_credentials_fault(channel: str, sandbox: SandboxServer) -> None:
    side = side_of(channel, sandbox)
    strange = {"team_id": "OTHER12345"} if channel == "apns" else {"client_email": "x@demo.iam.gserviceaccount.com"}
    credential = Credential(2, side.credential.secret | strange)
    result = await side.sender.send(side.sample(), credential, APPLICATION)
    assert isinstance(result, TryLater)
    assert result.retry_class == "credentials"
    await side.sender.close()
