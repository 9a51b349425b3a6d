"""What every channel's sender is: one call for one delivery, with one of three answers."""

from typing import Any, ClassVar, Protocol

import msgspec

from libs.envelope import Delivery
from libs.retry import RetryClass as RetryClass
from libs.rpc import Credential
from libs.waits import Hold


class Accepted(msgspec.Struct, frozen=True):
    """The provider has taken the message over."""

    provider_message_id: str
    """The provider's name for it; empty where it gave none."""


class Rejected(msgspec.Struct, frozen=True):
    """The provider will never take this message."""

    reason: str
    """The provider's own word where it gave one."""
    subscription_status: int | None = None
    """REF-002 code that the address shall get; None: the address is not at fault, or not proven to be."""
    data: dict[str, Any] = {}
    """Inputs of the decision, without content or token."""


class TryLater(msgspec.Struct, frozen=True):
    """Not taken now, or not known to be. Class `credentials` is no address' fault: the application's circuit opens."""

    reason: str
    retry_class: RetryClass
    retry_after: float | None = None
    """The provider's Retry-After in seconds: a floor."""
    unknown: bool = False
    """True: the call ended without an answer; the message may have been delivered."""
    data: dict[str, Any] = {}


class Postponed(msgspec.Struct, frozen=True):
    """Nobody was called: lifecycle keeps the message in `due` (R11), and no attempt is counted."""

    hold: Hold
    key: str
    """Tells this holding of the attempt from another one."""
    until_ms: int | None = None
    """Unix milliseconds, Postgres' clock; None: open-ended, until it is released."""
    data: dict[str, Any] = {}
    """Inputs of the decision, for the timeline: which limit, which count."""


Result = Accepted | Rejected | TryLater


class Sender(Protocol):
    """Talks to one provider. Never sleeps, never retries by itself, never raises for what a provider or a tenant did.

    The exceptions: one immediate second try where the request is known not to have been processed, and one with a
    newly minted provider token (APNs).
    """

    channel: ClassVar[str]

    async def send(self, delivery: Delivery, credential: Credential, application_id: str) -> Result: ...

    async def close(self) -> None:
        """Ends connections; to be awaited once, after the last `send` returned."""
