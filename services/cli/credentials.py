"""Provider credentials of the demonstration application, and the sandbox's list of them."""

import importlib
from typing import Any

import msgspec

from services.cli import datadir
from services.cli.datadir import DataDir

TEAM = "DEMO123456"
TOPIC = "com.example.demo"
PROJECT = "automata-demo"


class Credentials(msgspec.Struct, frozen=True):
    """By provider: what a sender gets (`private`), and what the sandbox checks it against (`tenant`)."""

    private: dict[str, dict[str, Any]]
    tenant: dict[str, dict[str, Any]]


def demo_credentials(data: DataDir, sandbox_tls_port: int) -> Credentials:
    """Made at the first call. The service account names the sandbox's token endpoint, so it follows the port."""
    path = data.secrets / "credentials.json"
    token_uri = f"https://127.0.0.1:{sandbox_tls_port}/token"
    found = datadir.read(path, Credentials) or _make(token_uri)
    found.private["fcm"]["token_uri"] = token_uri
    datadir.write(path, found)
    tenants = {provider: [tenant] for provider, tenant in found.tenant.items()}
    datadir.write(data.secrets / "tenants.json", tenants)
    return found


def _make(token_uri: str) -> Credentials:
    # Services do not import each other; the sandbox is a service, and only an embedded start needs this of it.
    sandbox = importlib.import_module("services.sandbox.credentials")
    apns, apns_tenant = sandbox.make_apns_credential(TEAM, TOPIC)
    fcm, fcm_tenant = sandbox.make_fcm_credential(PROJECT, token_uri)
    return Credentials({"apns": apns, "fcm": fcm}, {"apns": apns_tenant, "fcm": fcm_tenant})
