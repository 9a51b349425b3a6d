"""What an application has set up: settings, credentials, emergency stops; and who changed what (the audit log)."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from libs.api.fields import Channel, CursorPaging, Json, Moment, Pagination, Time
from libs.api.policy import FrequencyCap, QuietHours

AppleId = Annotated[str, Meta(pattern="^[A-Z0-9]+$", min_length=10, max_length=10)]
"""Team and key ids in Apple's developer account."""
PrivateKey = Annotated[str, Meta(min_length=1, max_length=8192)]
_Said = Annotated[str, Meta(max_length=500)]
Filter = Annotated[str, Meta(min_length=1, max_length=300)]
Rate = Annotated[float, Meta(ge=0.001, le=100_000)]


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages a second to each provider, all senders together. Not given: as fast as the provider takes them."""

    apns: Rate | UnsetType = UNSET
    fcm: Rate | UnsetType = UNSET


class Settings(msgspec.Struct, frozen=True):
    """What decides about sending. Other names are the application's own: kept, and never looked at.

    null takes a setting away.
    """

    timezone: Annotated[str, Meta(min_length=1, max_length=64)] | UnsetType | None = UNSET
    """IANA name, for recipients of whom neither time zone nor country is known. Not set: UTC."""
    quiet_hours: QuietHours | UnsetType | None = UNSET
    frequency_caps: Annotated[list[FrequencyCap], Meta(max_length=10)] | UnsetType | None = UNSET
    rates: Rates | UnsetType | None = UNSET
    receipt_timeout_hours: Annotated[int, Meta(ge=1, le=720)] | UnsetType | None = UNSET
    """What an app does not confirm within so many hours of being sent has failed. Not set: never."""


class ApplicationUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """PATCH /application. What is not given stays as it is."""

    name: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    settings: Settings = Settings()
    """Each setting that is named replaces the whole of what there was."""


class Application(msgspec.Struct, frozen=True):
    """Answer to GET and PATCH /application: whose key it is."""

    id: str
    name: str
    tier: str
    settings: Json


class ApnsCredential(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """PUT /credentials/apns: a key for token authentication (developer.apple.com, Keys)."""

    team_id: AppleId
    key_id: AppleId
    private_key_pem: PrivateKey
    """The .p8 file's text."""
    topic: Annotated[str, Meta(pattern="^[A-Za-z0-9.-]+$", min_length=1, max_length=255)]
    """Bundle id of the app."""


class FcmCredential(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """PUT /credentials/fcm: the JSON file of a service account, as Google gives it. What is optional is only kept."""

    project_id: Annotated[str, Meta(pattern="^[a-z0-9.:-]+$", min_length=1, max_length=100)]
    client_email: Annotated[str, Meta(min_length=3, max_length=384)]
    private_key: PrivateKey
    token_uri: Annotated[str, Meta(min_length=1, max_length=500)] = "https://oauth2.googleapis.com/token"
    type: _Said | None = None
    private_key_id: _Said | None = None
    client_id: _Said | None = None
    auth_uri: _Said | None = None
    auth_provider_x509_cert_url: _Said | None = None
    client_x509_cert_url: _Said | None = None
    universe_domain: _Said | None = None


class ProviderCredential(msgspec.Struct, frozen=True):
    """That there is one. The credential itself never comes back."""

    provider: str
    version: int
    """Rises with each change."""
    updated_at: Time


class ProviderCredentials(msgspec.Struct, frozen=True):
    """Answer to GET /credentials."""

    credentials: list[ProviderCredential]


class CredentialDeleted(msgspec.Struct, frozen=True):
    provider: str


class EmergencyStopBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /emergency-stops. The channel must be said: nothing is stopped by an empty body."""

    channel: Channel | None
    """null: all of them, and those to come."""
    reason: _Said = ""


class EmergencyStop(msgspec.Struct, frozen=True):
    channel: str | None
    """None: all of them."""
    reason: str
    actor: str
    since: Time


class EmergencyStops(msgspec.Struct, frozen=True):
    """Answer to GET /emergency-stops: what is stopped now."""

    emergency_stops: list[EmergencyStop]


class EmergencyStopReleased(msgspec.Struct, frozen=True):
    channel: str | None


class AuditQuery(CursorPaging, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"from_": "from"}):
    """GET /audit-log."""

    actor: Filter | None = None
    action: Filter | None = None
    resource: Filter | None = None
    from_: Moment | None = None
    """From this moment on."""
    to: Moment | None = None
    """Before this moment."""


class AuditRecord(msgspec.Struct, frozen=True):
    """One change: who did what to which resource, when. Without values."""

    id: str
    actor: str
    """`key:<id>`, `cli:<user>` …"""
    action: str
    resource: str
    request_id: str
    data: Json
    occurred_at: Time


class AuditRecords(msgspec.Struct, frozen=True):
    """Newest first."""

    entries: list[AuditRecord]
    pagination: Pagination
