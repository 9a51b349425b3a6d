"""Verbs of the application service: who may do what, with which credentials, how often; and who did what."""

from typing import Any, Literal

import msgspec

from libs.policy import Policy

Tier = Literal["default", "premium", "enterprise", "unlimited"]
Scope = Literal["send", "read", "manage", "client"]
Provider = Literal["apns", "fcm"]


class Authenticate(msgspec.Struct, frozen=True):
    """application.authenticate -> Principal; raises authentication_failed."""

    digest: bytes
    """SHA-256 of the presented key: the key itself stays at the gateway."""


class Principal(msgspec.Struct, frozen=True):
    application_id: str
    key_id: str
    scopes: list[str]
    tier: Tier
    identity_required: bool = False
    """True: a `client` key may only identify a user with a token signed by the application's back end."""
    identity_public_key: str | None = None
    """PEM; verifies those tokens (ES256, RS256 or EdDSA)."""


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


class CreateKey(msgspec.Struct, frozen=True):
    """application.create_key -> KeyCreated; raises resource_not_found, validation_error.

    The scope `client` stands alone: such a key lies in every copy of an app.
    """

    application_id: str
    name: str
    scopes: list[str]
    expires_at_ms: int | None = None
    """Within ten years, by Postgres' clock; None: never."""
    actor: str = "cli"
    request_id: str = ""
    """For the audit log."""


class KeyCreated(msgspec.Struct, frozen=True):
    key_id: str
    api_key: str
    """Shown this once; only its keyed hash is stored."""


class RotateKey(msgspec.Struct, frozen=True):
    """application.rotate_key -> KeyCreated; raises resource_not_found, validation_error.

    A new key with the old one's name, scopes and length of life; the old one works on for `grace_s` seconds. What was
    revoked is not rotated.
    """

    key_id: str
    grace_s: int = 86_400
    """At most 90 days."""
    actor: str = "cli"
    application_id: str | None = None
    """Given: another application's key is as unknown as one that does not exist."""
    request_id: str = ""
    """For the audit log."""


class RevokeKey(msgspec.Struct, frozen=True):
    """application.revoke_key -> Empty; raises resource_not_found. The first revocation's time stays."""

    key_id: str
    actor: str = "cli"
    application_id: str | None = None
    """As in `RotateKey`."""
    request_id: str = ""
    """For the audit log."""


class ListKeys(msgspec.Struct, frozen=True):
    """application.list_keys -> ApiKeys; raises resource_not_found. The newest 1,000, newest first."""

    application_id: str


class KeyView(msgspec.Struct, frozen=True):
    id: str
    name: str
    hint: str
    """The first characters after the prefix: enough to tell keys apart, no help in guessing."""
    scopes: list[str]
    created_at_ms: int
    expires_at_ms: int | None
    last_used_at_ms: int | None
    """Exact to a minute."""
    revoked_at_ms: int | None


class ApiKeys(msgspec.Struct, frozen=True):
    keys: list[KeyView]


class SetCredential(msgspec.Struct, frozen=True):
    """application.set_credential -> CredentialInfo; raises resource_not_found, validation_error.

    Sealed at rest and never shown again but to senders.
    """

    application_id: str
    provider: Provider
    secret: dict[str, Any]
    actor: str = "cli"
    request_id: str = ""
    """For the audit log."""


class DeleteCredential(msgspec.Struct, frozen=True):
    """application.delete_credential -> Empty; raises resource_not_found."""

    application_id: str
    provider: Provider
    actor: str = "cli"
    request_id: str = ""
    """For the audit log."""


class ListCredentials(msgspec.Struct, frozen=True):
    """application.list_credentials -> Credentials; raises resource_not_found."""

    application_id: str


class CredentialInfo(msgspec.Struct, frozen=True):
    provider: Provider
    version: int
    updated_at_ms: int


class Credentials(msgspec.Struct, frozen=True):
    credentials: list[CredentialInfo]


class GetCredential(msgspec.Struct, frozen=True):
    """application.credential -> Credential; raises resource_not_found where none is set."""

    application_id: str
    provider: Provider


class Credential(msgspec.Struct, frozen=True):
    version: int
    secret: dict[str, Any]
    """APNs: team_id, key_id, private_key_pem, topic. FCM: Google's service account JSON."""


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


class AuditEntry(msgspec.Struct, frozen=True):
    """One change: who did what to which resource, when. Without values: they may be personal."""

    application_id: str
    actor: str
    action: str
    """`subscription.disable`, `template.create`, `key.revoke` …"""
    resource: str
    """`subscription/<id>` and the like; names and external ids do not appear."""
    request_id: str
    data: dict[str, Any] = {}


class RecordAudit(msgspec.Struct, frozen=True):
    """application.record_audit -> Empty, after the commit; raises validation_error.

    Changes of what this service owns are not reported: they are recorded in the transaction that makes them.
    """

    entries: list[AuditEntry]


class ListAudit(msgspec.Struct, frozen=True):
    """application.list_audit -> AuditPage; raises resource_not_found. Newest first."""

    application_id: str
    before: int | None = None
    """Position from which to go back."""
    limit: int = 20
    """At most 100."""
    actor: str | None = None
    action: str | None = None
    resource: str | None = None
    from_ms: int | None = None
    to_ms: int | None = None
    """From `from_ms` on, and before `to_ms`."""
    offset: int = 0
    """Entries to leave out, for numbered pages."""


class AuditView(msgspec.Struct, frozen=True):
    position: int
    actor: str
    action: str
    resource: str
    request_id: str
    data: dict[str, Any]
    occurred_at_ms: int


class AuditPage(msgspec.Struct, frozen=True):
    entries: list[AuditView]
    total: int
    """Exact to 10,000; 10,001 means more."""
    more: bool = False
    """True: there are older ones."""


class SetStop(msgspec.Struct, frozen=True):
    """application.set_stop -> Stop; raises resource_not_found, validation_error.

    Stopping what is stopped changes nothing.
    """

    application_id: str
    channel: str
    """Sender channel such as `apns`; `*` is all of them."""
    actor: str
    reason: str = ""
    """At most 500 characters."""
    request_id: str = ""
    """For the audit log."""


class ReleaseStop(msgspec.Struct, frozen=True):
    """application.release_stop -> Empty; raises resource_not_found."""

    application_id: str
    channel: str
    actor: str
    request_id: str = ""
    """For the audit log."""


class ListStops(msgspec.Struct, frozen=True):
    """application.stops -> Stops; raises resource_not_found. What is stopped now; of one application, or of all."""

    application_id: str | None = None


class Stop(msgspec.Struct, frozen=True):
    application_id: str
    channel: str
    actor: str
    reason: str
    since_ms: int
    is_new: bool = False
    """True in the answer to the `set_stop` that made it."""


class Stops(msgspec.Struct, frozen=True):
    stops: list[Stop]


class GetPolicy(msgspec.Struct, frozen=True):
    """application.policy -> PolicyFound; raises resource_not_found."""

    application_id: str


class PolicyFound(msgspec.Struct, frozen=True):
    policy: Policy


class GetApplication(msgspec.Struct, frozen=True):
    """application.get_application -> ApplicationView; raises resource_not_found."""

    application_id: str
