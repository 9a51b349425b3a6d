"""Verbs of the application service about API keys: who is calling, and may do what."""

from typing import Literal

import msgspec

from libs.rpc.application import Tier

Scope = Literal["send", "read", "manage", "client"]


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
