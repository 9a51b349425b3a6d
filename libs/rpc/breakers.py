"""Verbs of lifecycle about circuit breakers: providers that an application's messages do not reach at the moment."""

from typing import Literal

import msgspec


class ReportBreaker(msgspec.Struct, frozen=True):
    """lifecycle.report_breaker -> Empty; raises resource_not_found. What a sender learned of an application's way to
    a provider.

    `failed` opens the breaker, or keeps it open for longer; `healed` closes it. `renewed`: the credential was set anew,
    so that one which the last credential opened is probed at once.
    """

    application_id: str
    channel: str
    verdict: Literal["failed", "healed", "renewed"]
    reason: str = ""
    """Of the failure: a code without secrets."""
    retry_class: Literal["network", "outage", "credentials"] = "outage"
    """Of the failure."""
    region: str = ""
    opened_at_ms: int | None = None
    """The breaker that was probed: the verdict says nothing of a later one. None: it may be any."""


class ListBreakers(msgspec.Struct, frozen=True):
    """lifecycle.breakers -> OpenBreakers. Those that are open, of all applications: few."""

    application_id: str | None = None
    """Only this one's."""
    channel: str | None = None
    """Only those of this one."""
    count_waiting: bool = False
    """Count the messages too: then of at most 500 breakers, else of 10,000."""


class OpenBreaker(msgspec.Struct, frozen=True):
    application_id: str
    channel: str
    reason: str
    retry_class: Literal["network", "outage", "credentials"]
    """Of the last failure."""
    opened_at_ms: int
    probe_at_ms: int
    """From then on single messages try whether the provider is well again (half open)."""
    failures: int
    """Probes that failed since it opened, the first failure included."""
    waiting: int = 0
    """Messages that wait for it, where they were to be counted; counted to 10,000."""
    half_open: bool = False
    """`probe_at_ms` has passed, by Postgres' clock."""


class OpenBreakers(msgspec.Struct, frozen=True):
    breakers: list[OpenBreaker]
