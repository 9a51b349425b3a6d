"""Policies of applications as the pipeline sees them: asked for every two seconds, kept while nobody answers."""

import asyncio
from collections import OrderedDict
from functools import partial

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.clock import Clock
from libs.errors import ResourceNotFound, ServiceUnavailable, SignalError
from libs.policy import Policy
from libs.rpc import GetPolicy, PolicyFound

APPLICATIONS = 10_000
"""Kept: those used last."""
FRESH_SECONDS = 2.0
UNKNOWN_SECONDS = 0.8
"""Until it is asked again what was never answered."""
_ASK_SECONDS = 1.0
_log = telemetry.logger("policies")


class _Known(msgspec.Struct):
    policy: Policy | None
    """None: never heard of yet."""
    ask_at: float
    """Monotonic seconds."""
    broken: bool = False
    """The last answer was none."""


class PolicyBoard:
    """What applications set for their own sending; a change is seen within three seconds."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Policy | None]] = {}
        self._answered = True

    async def of(self, application_id: str) -> Policy:
        """Of an application that is gone, the default. Raises `ServiceUnavailable` while nothing is known of it at all.

        While nobody answers, what was known last serves on, and the next question is not waited for.
        """
        known = self._known.get(application_id)
        policy = known.policy if known else None
        if known is None or self._clock.monotonic() >= known.ask_at:
            asking = self._ask_once(application_id)
            if self._answered or policy is None:
                policy = await asyncio.shield(asking)
        if policy is None:
            raise ServiceUnavailable(service="application", retry_after=1)
        return policy

    def _ask_once(self, application_id: str) -> asyncio.Task[Policy | None]:
        """Everybody who needs it waits for the one question."""
        asking = self._asking.get(application_id)
        if asking is None:
            asking = self._asking[application_id] = asyncio.create_task(self._ask(application_id))
            asking.add_done_callback(partial(self._asked, application_id))
        return asking

    async def _ask(self, application_id: str) -> Policy | None:
        """What is known from now on."""
        known = self._known.get(application_id) or _Known(None, 0.0)
        policy, broken = known.policy, False
        try:
            policy = await self._answer(application_id)
        except ServiceUnavailable:
            if self._answered:
                _log.warning("policies_unknown")
            self._answered = False
        except (SignalError, msgspec.ValidationError) as error:  # broken, or of another version: for this one
            broken = self._answered = True
            if not known.broken:
                _log.warning("policy_unknown", application_id=application_id, error_type=type(error).__name__)
        else:
            self._answered = True
        self._keep(application_id, policy, broken)
        return policy

    async def _answer(self, application_id: str) -> Policy:
        request = GetPolicy(application_id)
        try:
            return (await self._bus.call("application", "policy", request, PolicyFound, timeout=_ASK_SECONDS)).policy
        except ResourceNotFound:
            return Policy()

    def _keep(self, application_id: str, policy: Policy | None, broken: bool) -> None:
        lasts = UNKNOWN_SECONDS if policy is None else FRESH_SECONDS
        self._known[application_id] = _Known(policy, self._clock.monotonic() + lasts, broken)
        self._known.move_to_end(application_id)
        if len(self._known) > APPLICATIONS:
            self._known.popitem(last=False)

    def _asked(self, application_id: str, task: asyncio.Task[Policy | None]) -> None:
        del self._asking[application_id]
        if not task.cancelled():
            task.exception()  # seen here too, for when everybody who waited has gone
