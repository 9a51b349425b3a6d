"""Provider credentials, asked from the application service and kept for a short while."""

import asyncio
from collections import OrderedDict
from typing import Literal

from libs.bus import Bus
from libs.clock import Clock
from libs.errors import ResourceNotFound, ServiceUnavailable
from libs.rpc import Credential, GetCredential

_APPLICATIONS = 10_000
_FRESH_SECONDS = 30.0
_STALE_SECONDS = 5.0
"""A credential known before serves for so long again while the application service is away."""


class CredentialCache:
    """One credential an application for this process' provider; a changed one is seen within half a minute."""

    def __init__(self, bus: Bus, provider: Literal["apns", "fcm"], clock: Clock) -> None:
        self._bus = bus
        self._provider = provider
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, Credential | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Lock] = {}

    async def get(self, application_id: str) -> Credential | None:
        """None where the application has set none. Raises `ServiceUnavailable` where it is not known yet."""
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
        except ServiceUnavailable:
            _, credential = self._known.get(application_id, (0.0, None))
            if credential is None:
                raise
            return self._keep(application_id, credential, _STALE_SECONDS)
        return self._keep(application_id, credential, _FRESH_SECONDS)

    def _keep(self, application_id: str, credential: Credential | None, seconds: float) -> Credential | None:
        self._known[application_id] = (self._clock.monotonic() + seconds, credential)
        self._known.move_to_end(application_id)
        if len(self._known) > _APPLICATIONS:
            self._known.popitem(last=False)
        return credential
