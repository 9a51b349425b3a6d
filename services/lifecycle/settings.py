"""Settings of the lifecycle service."""

from typing import Annotated, Literal

import msgspec

from libs.config import Database, Health, Keys, Nats, Retry

Part = Literal["all", "rpc", "relay", "reconciler", "timekeeper"]


class Lifecycle(msgspec.Struct, frozen=True):
    only: Part = "all"
    """Run one part apart; `rpc` answers requests and records outcomes without the single-replica parts."""
    publish_timeout: float = 5.0
    """Seconds to publish a hand-off after its commit; then the reconciler looks for it."""
    reconcile_after: float = 8.0
    """Age in seconds at which a hand-off is looked for: more than `publish_timeout`."""
    outcome_slots: int = 16
    """Outcome envelopes of one lane in hand at once."""
    transactions: int = 4
    """Acceptance or recording transactions of one lane under way at once."""
    retention_days: Annotated[int, msgspec.Meta(ge=0)] = 90
    """Days after which a finished week of the log is put away into the schema `lifecycle_archive`; 0: never."""
    breaker_seconds: float = 30.0
    """From a breaker's opening to the first probe; doubled by each one that fails, up to ten times as much."""


class Settings(msgspec.Struct, frozen=True):
    database: Database
    keys: Keys
    nats: Nats = Nats()
    health: Health = Health()
    lifecycle: Lifecycle = Lifecycle()
    retry: Retry = Retry()
