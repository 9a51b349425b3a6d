"""The three ledgers that the outside checker joins, and what of each it needs. Plain records, no I/O."""

from typing import Literal

import msgspec


class Attempt(msgspec.Struct, frozen=True):
    """One try of a request."""

    at: float
    """Unix seconds by the client's clock."""
    answer: str
    """Status code, or the name of the error that came instead."""
    seconds: float = 0.0
    """Until the answer."""
    retry_after: str | None = None


class Request(msgspec.Struct):
    """One request of the client, repeated under the same Idempotency-Key until answered, unless `fragile`."""

    path: str
    key: str
    subscriptions: list[str]
    """Of each item, in order."""
    refusable: frozenset[int] = frozenset()
    """Indexes of items that must be refused: their subscription does not exist."""
    fragile: bool = False
    """Given up at the first error. Its subscription is used by no other request, so that the log can be asked how
    many of its items it knows."""
    attempts: list[Attempt] = []
    accepted: dict[int, str] = {}
    """Item index to message id."""
    refused: dict[int, str] = {}
    """Item index to error code."""
    replayed: bool = False
    state: Literal["open", "answered", "given_up", "unanswered"] = "open"
    """`given_up`: fragile, and an error came. `unanswered`: repeated in vain."""
    number: int = 0


class Client(msgspec.Struct):
    """The first ledger: what the client was told."""

    requests: list[Request] = []

    def note(self, request: Request) -> None:
        """A request is about to be made for the first time."""
        request.number = len(self.requests)
        self.requests.append(request)

    def told(self) -> dict[str, Request]:
        """Message id to the request it was accepted in."""
        return {found: request for request in self.requests for found in request.accepted.values()}

    def given_up(self) -> list[Request]:
        return [request for request in self.requests if request.state == "given_up"]


class Call(msgspec.Struct, frozen=True):
    """The second ledger: one request that the sandbox saw."""

    provider: str
    message_id: str
    token: str
    collapse: str | None
    accepted: bool
    at: str = ""
    """RFC 3339."""


Identity = tuple[str, str, int, str]
Place = tuple[int, int, int]


class Fact(msgspec.Struct, frozen=True):
    """The third ledger: one event of the log."""

    message_id: str
    kind: str
    attempt: int
    key: str
    occurred_at_us: int
    epoch: int
    txid: int
    position: int
    reason: str | None = None
    outcome: str | None = None
    """`unknown` where a provider call ended without an answer."""

    @property
    def identity(self) -> Identity:
        return (self.message_id, self.kind, self.attempt, self.key)

    @property
    def place(self) -> Place:
        return (self.epoch, self.txid, self.position)


class Row(msgspec.Struct, frozen=True):
    """One message as the projection has it. Times are Unix microseconds."""

    id: str
    subscription_id: str
    channel: str
    status: str
    attempt: int
    reason: str | None = None
    sent_at_us: int | None = None
    received_at_us: int | None = None
    converted_at_us: int | None = None
    failed_at_us: int | None = None
    cancelled_at_us: int | None = None


class Published(msgspec.Struct, frozen=True):
    """One event as it was found on EVENTS, in the order of the stream."""

    message_id: str
    kind: str
    attempt: int
    key: str
    epoch: int
    txid: int
    position: int

    @property
    def identity(self) -> Identity:
        return (self.message_id, self.kind, self.attempt, self.key)

    @property
    def place(self) -> Place:
        return (self.epoch, self.txid, self.position)


class Rebuild(msgspec.Struct, frozen=True):
    """What `automata projections rebuild` printed."""

    messages: int
    checksum_before: str
    checksum_after: str


class Evidence(msgspec.Struct):
    """All that was found after the fault was over and everything had settled."""

    client: Client
    calls: list[Call]
    log: list[Fact]
    rows: dict[str, Row]
    published: list[Published]
    rebuild: Rebuild | None = None
    open_handoffs: int = 0
    due: int = 0


class Allowance(msgspec.Struct, frozen=True):
    """How much the fault at hand may show."""

    repeats: int = 0
    """Calls beyond what the log explains: configured concurrency + one outcome batch, for each kill (I3)."""
    published_after: Place | None = None
    """Set where the EVENTS stream was deleted: only facts beyond this place must be in it."""
    foreign: frozenset[str] = frozenset()
    """Ids made up by a test, which the log rightly does not know."""
