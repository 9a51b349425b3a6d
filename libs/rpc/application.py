"""Verbs of the application service: applications, their settings, and how often they may call. Others have files of
their own: `api_keys`, `credentials`, `stops`, `audit`."""

from typing import Any, Literal

import msgspec

from libs.policy import Policy

Tier = Literal["default", "premium", "enterprise", "unlimited"]


class CreateApplication(msgspec.Struct, frozen=True):
    """application.create_application -> ApplicationCreated; raises validation_error.

    The same id twice changes nothing.
    """

    application_id: str
    name: str
    tier: Tier = "default"
    settings: dict[str, Any] = {}
    actor: str = "cli"
    request_id: str = ""
    """For the audit log."""
    identity_public_key: str | None = None
    """PEM."""
    identity_required: bool = False
    """True only with a public key."""


class ApplicationCreated(msgspec.Struct, frozen=True):
    application_id: str


class UpdateApplication(msgspec.Struct, frozen=True):
    """application.update_application -> ApplicationView; raises resource_not_found, validation_error.

    What is None stays as it is.
    """

    application_id: str
    actor: str
    name: str | None = None
    tier: Tier | None = None
    settings: dict[str, Any] | None = None
    """Merged into the settings there are; null removes one."""
    identity_public_key: str | None = None
    """PEM; the empty string removes it."""
    identity_required: bool | None = None
    """True only where there is a public key."""
    request_id: str = ""
    """For the audit log."""


class ListApplications(msgspec.Struct, frozen=True):
    """application.list_applications -> Applications; raises resource_not_found. In the order of their ids."""

    after: str | None = None
    """The last id of the page before."""
    limit: int = 100
    """At most 1,000."""


class GetApplication(msgspec.Struct, frozen=True):
    """application.get_application -> ApplicationView; raises resource_not_found."""

    application_id: str


class ApplicationView(msgspec.Struct, frozen=True):
    id: str
    name: str
    tier: Tier
    settings: dict[str, Any]
    identity_required: bool
    has_identity_key: bool
    created_at_ms: int


class Applications(msgspec.Struct, frozen=True):
    applications: list[ApplicationView]


class LeaseRequests(msgspec.Struct, frozen=True):
    """application.lease -> Lease; raises resource_not_found.

    A share of this minute's requests, taken from the one counter of all gateways.
    """

    application_id: str
    limit: int
    """Requests a minute of the application's tier."""
    want: int
    """As many are granted as are left of the limit; 0 only looks."""


class Lease(msgspec.Struct, frozen=True):
    granted: int
    """0: the minute's requests are used up."""
    remaining: int
    """Not granted to anybody yet."""
    window_ends_ms: int
    """Unix milliseconds, Postgres' clock."""
    now_ms: int
    """Postgres' clock too: a gateway counts the window's end from this, not by its own clock."""


class GetPolicy(msgspec.Struct, frozen=True):
    """application.policy -> PolicyFound; raises resource_not_found."""

    application_id: str


class PolicyFound(msgspec.Struct, frozen=True):
    policy: Policy
