"""Provider credentials, asked from the application service and kept for a short while."""

import asyncio
from collections import OrderedDict
from typing import Literal

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.clock import Clock
from libs.errors import ResourceNotFound, ServiceUnavailable, SignalError
from libs.rpc import Credential, GetCredential

from .accounts import CredentialFault

_APPLICATIONS = 10_000
_FRESH_SECONDS = 30.0
_DOUBTED_SECONDS = 1.0
"""One that the provider refused may be set anew at any time."""
_STALE_SECONDS = 5.0
"""A credential known before serves for so long again while the application service is away."""
_log = telemetry.logger("credentials")


class _Known(msgspec.Struct):
    asked_at: float
    fresh_until: float
    credential: Credential | None


class CredentialCache:
    """One credential an application for this process' provider; a changed one is seen within half a minute."""

    def __init__(self, bus: Bus, provider: Literal["apns", "fcm"], clock: Clock) -> None:
        self._bus = bus
        self._provider = provider
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Lock] = {}

    async def get(self, application_id: str, doubted: bool = False) -> Credential | None:
        """None where the application has set none. `doubted`: the provider refused it, so a second is its age at most.

        Raises `ServiceUnavailable` where it is not known yet, `CredentialFault` where it cannot be read.
        """
        fresh = self._fresh(application_id, doubted)
        if fresh is not None:
            return fresh.credential
        lock = self._asking.setdefault(application_id, asyncio.Lock())
        try:
            async with lock:
                fresh = self._fresh(application_id, doubted)
                return fresh.credential if fresh is not None else await self._ask(application_id)
        finally:
            if not lock.locked():
                self._asking.pop(application_id, None)

    async def of(self, application_id: str, doubted: bool = False) -> Credential | CredentialFault:
        """What `get` finds, or why nothing can be sent with it. Raises `ServiceUnavailable`."""
        try:
            found = await self.get(application_id, doubted)
        except CredentialFault as fault:
            return fault
        return CredentialFault("credential_missing") if found is None else found

    async def is_outdated(self, application_id: str, refused: Credential) -> bool:
        """True where another one was set since: that this one was refused says nothing of it."""
        try:
            return await self.get(application_id, doubted=True) != refused
        except (ServiceUnavailable, CredentialFault):
            return False

    def _fresh(self, application_id: str, doubted: bool) -> _Known | None:
        found, now = self._known.get(application_id), self._clock.monotonic()
        if found is None or now >= found.fresh_until or (doubted and now - found.asked_at >= _DOUBTED_SECONDS):
            return None
        return found

    async def _ask(self, application_id: str) -> Credential | None:
        request = GetCredential(application_id, self._provider)
        credential: Credential | None
        try:
            credential = await self._bus.call("application", "credential", request, Credential)
        except ResourceNotFound:
            credential = None
        except (SignalError, msgspec.MsgspecError) as error:
            known = self._known.get(application_id)
            if known is None or known.credential is None:
                raise self._unknown(application_id, error) from None
            return self._keep(application_id, known.credential, _STALE_SECONDS)
        return self._keep(application_id, credential, _FRESH_SECONDS)

    def _unknown(self, application_id: str, error: Exception) -> ServiceUnavailable | CredentialFault:
        """One that nobody can read holds up its application alone."""
        if isinstance(error, ServiceUnavailable):
            return error
        _log.error("credential_unreadable", application_id=application_id, error_type=type(error).__name__)
        return CredentialFault("credential_unreadable")

    def _keep(self, application_id: str, credential: Credential | None, seconds: float) -> Credential | None:
        now = self._clock.monotonic()
        self._known[application_id] = _Known(now, now + seconds, credential)
        self._known.move_to_end(application_id)
        if len(self._known) > _APPLICATIONS:
            self._known.popitem(last=False)
        return credential
