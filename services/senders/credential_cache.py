"""Provider credentials, asked from the application service and kept for a short while."""

import asyncio
from collections import OrderedDict
from typing import Literal

from libs.bus import Bus
from libs.clock import Clock
from libs.errors import ResourceNotFound
from libs.rpc import Credential, GetCredential

_APPLICATIONS = 10_000
_FRESH_SECONDS = 30.0


class CredentialCache:
    """One credential an application for this process' provider; a changed one is seen within half a minute."""

    def __init__(self, bus: Bus, provider: Literal["apns", "fcm"], clock: Clock) -> None:
        self._bus = bus
        self._provider = provider
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Credential | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Lock] = {}

    async def get(self, application_id: str) -> Credential | None:
        """None where the application has set none. Raises `ServiceUnavailable`."""
        fresh = self._fresh(application_id)
        if fresh is not None:
            return fresh[1]
        lock = self._asking.setdefault(application_id, asyncio.Lock())
        try:
            async with lock:
                fresh = self._fresh(application_id)
                return fresh[1] if fresh is not None else await self._ask(application_id)
        finally:
            if not lock.locked():
                self._asking.pop(application_id, None)

    def _fresh(self, application_id: str) -> tuple[float, Credential | None] | None:
        found = self._known.get(application_id)
        return found if found is not None and self._clock.monotonic() < found[0] else None

    async def _ask(self, application_id: str) -> Credential | None:
        request = GetCredential(application_id, self._provider)
        credential: Credential | None
        try:
            credential = await self._bus.call("application", "credential", request, Credential)
        except ResourceNotFound:
            credential = None
        self._known[application_id] = (self._clock.monotonic() + _FRESH_SECONDS, credential)
        self._known.move_to_end(application_id)
        if len(self._known) > _APPLICATIONS:
            self._known.popitem(last=False)
        return credential
