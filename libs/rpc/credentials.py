"""Verbs of the application service about credentials: what an application proves itself with to a provider."""

from typing import Any, Literal

import msgspec

Provider = Literal["apns", "fcm"]


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
