"""Emergency stops: nothing of an application, or of one of its channels, is sent until it is released."""

import re

import msgspec

from libs.errors import ResourceNotFound, ValidationFailed
from libs.pg import Pool
from libs.rpc import AuditEntry, Empty, ListStops, ReleaseStop, SetStop, Stop, Stops
from services.application import queries_limits as queries
from services.application.checks import expect_id

EVERY_CHANNEL = "*"
MAX_REASON = 500
_CHANNEL = re.compile(r"[a-z][a-z_]{0,31}|\*")


class EmergencyStops:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def set(self, request: SetStop) -> Stop:
        request = _checked(request)
        async with self._pool.transaction() as c:
            made = await queries.insert_stop(c, request.application_id, request.channel, request.actor, request.reason)
            if made is not None:
                # The stop itself is gone when it is released; why there was one is for the log to keep.
                await queries.insert_audit(c, [_entry(request, "emergency_stop.set", {"reason": request.reason})])
            found = made or await queries.find_stop(c, request.application_id, request.channel)
        if found is None:
            raise ResourceNotFound(id=request.application_id)
        return found

    async def release(self, request: ReleaseStop) -> Empty:
        if not _CHANNEL.fullmatch(request.channel):
            raise ResourceNotFound(channel=request.channel[:64])
        request = msgspec.structs.replace(request, application_id=expect_id(request.application_id))
        async with self._pool.transaction() as c:
            if not await queries.delete_stop(c, request.application_id, request.channel):
                raise ResourceNotFound(channel=request.channel)
            await queries.insert_audit(c, [_entry(request, "emergency_stop.release", {})])
        return Empty()

    async def list(self, request: ListStops) -> Stops:
        application_id = None if request.application_id is None else expect_id(request.application_id)
        async with self._pool.connection() as c:
            return Stops(await queries.stops(c, application_id))


def _checked(request: SetStop) -> SetStop:
    """Raises `ResourceNotFound`, `ValidationFailed`."""
    if not _CHANNEL.fullmatch(request.channel):
        raise ValidationFailed(fields={"channel": "must be a channel, or * for all of them"})
    if len(request.reason) > MAX_REASON or "\0" in request.reason:
        raise ValidationFailed(fields={"reason": f"must have at most {MAX_REASON} characters and no NUL"})
    return msgspec.structs.replace(request, application_id=expect_id(request.application_id))


def _entry(request: SetStop | ReleaseStop, action: str, data: dict[str, str]) -> AuditEntry:
    channel = "all" if request.channel == EVERY_CHANNEL else request.channel
    resource = f"emergency_stop/{channel}"
    return AuditEntry(request.application_id, request.actor, action, resource, request.request_id, data)
