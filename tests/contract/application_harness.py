"""What the application service is asked, over NATS."""

import hashlib

from libs import rpc
from libs.bus import Bus
from libs.ids import new_id


async def make_application(bus: Bus, tier: rpc.Tier = "premium") -> str:
    made = rpc.CreateApplication(new_id(), "Shop", tier)
    return (await bus.call("application", "create_application", made, rpc.ApplicationCreated)).application_id


async def make_key(
    bus: Bus, application_id: str, *scopes: str, expires_at_ms: int | None = None, name: str = "back end"
) -> rpc.KeyCreated:
    request = rpc.CreateKey(application_id, name, list(scopes or ("send",)), expires_at_ms)
    return await bus.call("application", "create_key", request, rpc.KeyCreated)


async def authenticate(bus: Bus, api_key: str) -> rpc.Principal:
    digest = hashlib.sha256(api_key.encode()).digest()
    return await bus.call("application", "authenticate", rpc.Authenticate(digest), rpc.Principal)


async def keys_of(bus: Bus, application_id: str) -> list[rpc.KeyView]:
    return (await bus.call("application", "list_keys", rpc.ListKeys(application_id), rpc.ApiKeys)).keys


async def audit_of(bus: Bus, application_id: str, resource: str | None = None) -> list[rpc.AuditView]:
    """Newest first."""
    question = rpc.ListAudit(application_id, limit=100, resource=resource)
    return (await bus.call("application", "list_audit", question, rpc.AuditPage)).entries
