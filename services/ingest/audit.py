"""The audit log's entries: one for each successful change, committed before the change is answered."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from libs import rpc
from libs.bus import Bus
from libs.coalesce import Coalescer
from libs.errors import ServiceUnavailable, SignalError
from libs.ids import is_id
from services.ingest.exchange import Answer, Call
from services.ingest.proxies import Proxies

NAMED_BY_APPLICATIONS = frozenset({"user"})
"""What is named in paths by ids that applications give, which are personal: the handler alone knows ours."""


class Audit:
    def __init__(self, bus: Bus, proxies: Proxies) -> None:
        self._bus = bus
        self._proxies = proxies
        self._entries = Coalescer[rpc.AuditEntry, None](self._commit, concurrency=2)

    async def record(self, action: str, call: Call[Any], answer: Answer, request: web.Request) -> None:
        """Raises `ServiceUnavailable` if it was not kept: the operation can be repeated."""
        entry = rpc.AuditEntry(
            application_id=call.caller.application_id,
            actor=call.caller.actor,
            action=action,
            resource=answer.resource or resource_of(action, call),
            request_id=call.request_id,
            data=self._origin(call, request),
        )
        try:
            await self._entries.submit(entry)
        except SignalError:
            raise ServiceUnavailable(service="application", retry_after=1) from None

    def _origin(self, call: Call[Any], request: web.Request) -> dict[str, Any]:
        """Where a back end called from. The address of a person's device is personal: no key of an app tells it."""
        address = None if "client" in call.caller.scopes else self._proxies.address_of(request)
        return {} if address is None else {"address": address}

    async def _commit(self, entries: list[rpc.AuditEntry]) -> Sequence[None]:
        await self._bus.call("application", "record_audit", rpc.RecordAudit(entries), rpc.Empty)
        return [None] * len(entries)


def resource_of(action: str, call: Call[Any]) -> str:
    """`subscription/<id>` for `subscription.disable` of an id in the path; without one that is ours, the kind alone."""
    kind = action.partition(".")[0]
    identifier = call.parameters.get("id", "")
    named = is_id(identifier) and kind not in NAMED_BY_APPLICATIONS
    return f"{kind}/{identifier.lower()}" if named else kind
