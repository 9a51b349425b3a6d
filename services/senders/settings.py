"""Settings of one sender process: one channel, one region."""

from typing import Annotated, Literal

import msgspec

from libs.config import Health, Nats
from libs.subjects import Region


class Sender(msgspec.Struct, frozen=True):
    channel: Literal["apns", "fcm"]
    region: Region = "local"
    standby_for: Annotated[str, msgspec.Meta(pattern=r"^(\*|[a-z0-9-]+(,[a-z0-9-]+)*)\Z")] = "*"
    """Regions whose work is taken over while no sender of the channel lives there: `*` for any, `none`, or a list such
    as `fra,icn`."""
    takeover_after: Annotated[float, msgspec.Meta(ge=2.0)] = 10.0
    """Seconds without a sign of life; a restart should take less."""
    slots: int = 32
    """Envelopes of one lane that are worked on at once."""
    parked: int = 256
    """Further envelopes of one lane, whose calls are all under way."""
    concurrency: int = 200
    """Provider calls of one lane under way at once, but for those that are `slow_after` seconds old."""
    application_concurrency: int = 100
    """Of these, calls of one application, old ones included (R11)."""
    slow_after: float = 1.0
    """Seconds after which a call gives its place in the lane to another."""
    max_outstanding: int = 2_000
    """Such calls of one lane at once. What goes without an answer is unknown, and repeated, crash or no crash."""
    outcome_batch: int = 100
    """Outcomes of one lane published together: with `concurrency` the bound of what a crash can repeat."""
    outcome_wait: float = 0.02
    """Seconds that an outcome waits for company while calls are under way."""
    breaker_seconds: float = 30.0
    """From a breaker's opening to the first probe, while lifecycle, which decides it, is away: as it is set there."""
    breaker_failures: int = 20
    """Failed calls of an application in a row that are an outage; ten, where they took nine seconds."""

    def stands_by_for(self, region: str) -> bool:
        return self.standby_for == "*" or region in self.standby_for.split(",")


class Apns(msgspec.Struct, frozen=True):
    production_url: str = "https://api.push.apple.com"
    development_url: str = "https://api.sandbox.push.apple.com"
    ca_file: str | None = None
    """PEM of the authority to trust instead of the system's; for the sandbox."""
    connections: int = 2
    timeout: float = 10.0
    """Seconds for one call."""


class Fcm(msgspec.Struct, frozen=True):
    base_url: str = "https://fcm.googleapis.com"
    ca_file: str | None = None
    connections: int = 2
    timeout: float = 10.0


class Settings(msgspec.Struct, frozen=True):
    sender: Sender
    nats: Nats = Nats()
    health: Health = Health()
    apns: Apns = Apns()
    fcm: Fcm = Fcm()
