"""What other services may ask of application (`signal.rpc.application.*`)."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from libs import rpc
from services.application.access import Access
from services.application.applications import Tenants
from services.application.audit import Audit
from services.application.limits import Limits
from services.application.policy import Policies
from services.application.rewrap import Rewrapper
from services.application.stops import EmergencyStops
from services.application.vault import Vault


class Handlers:
    def __init__(
        self,
        tenants: Tenants,
        access: Access,
        vault: Vault,
        limits: Limits,
        audit: Audit,
        stops: EmergencyStops,
        rewrapper: Rewrapper,
        policies: Policies,
    ) -> None:
        self._tenants = tenants
        self._access = access
        self._vault = vault
        self._limits = limits
        self._audit = audit
        self._stops = stops
        self._rewrapper = rewrapper
        self._policies = policies

    def verbs(self) -> dict[str, tuple[type[msgspec.Struct], Callable[[Any], Awaitable[msgspec.Struct]]]]:
        return {
            "authenticate": (rpc.Authenticate, self._access.authenticate),
            "create_application": (rpc.CreateApplication, self._tenants.create),
            "update_application": (rpc.UpdateApplication, self._tenants.update),
            "get_application": (rpc.GetApplication, self._tenants.get),
            "policy": (rpc.GetPolicy, self._policies.get),
            "list_applications": (rpc.ListApplications, self._tenants.list),
            "create_key": (rpc.CreateKey, self._access.create),
            "rotate_key": (rpc.RotateKey, self._access.rotate),
            "revoke_key": (rpc.RevokeKey, self._access.revoke),
            "list_keys": (rpc.ListKeys, self._access.list),
            "set_credential": (rpc.SetCredential, self._vault.set),
            "delete_credential": (rpc.DeleteCredential, self._vault.delete),
            "list_credentials": (rpc.ListCredentials, self._vault.list),
            "credential": (rpc.GetCredential, self._vault.get),
            "lease": (rpc.LeaseRequests, self._limits.lease),
            "record_audit": (rpc.RecordAudit, self._audit.record),
            "list_audit": (rpc.ListAudit, self._audit.list),
            "set_stop": (rpc.SetStop, self._stops.set),
            "release_stop": (rpc.ReleaseStop, self._stops.release),
            "stops": (rpc.ListStops, self._stops.list),
            "rewrap": (rpc.RewrapCredentials, self._rewrapper.rewrap),
        }
