"""Emergency stops: nothing goes out on a channel, or on any, until it is released. What is accepted meanwhile waits."""

from libs import rpc
from libs.api.application import EmergencyStop, EmergencyStopBody, EmergencyStopReleased, EmergencyStops
from libs.stops import EVERY_CHANNEL
from services.ingest.exchange import Answer, Call, Gateway, Route
from services.ingest.render import rfc3339

ALL = "all"
"""In a path."""


async def set_stop(gateway: Gateway, call: Call[EmergencyStopBody]) -> Answer:
    request = rpc.SetStop(
        application_id=call.caller.application_id,
        channel=call.input.channel or EVERY_CHANNEL,
        actor=call.caller.actor,
        reason=call.input.reason,
        request_id=call.request_id,
    )
    stop = await gateway.bus.call("application", "set_stop", request, rpc.Stop)
    return Answer(201 if stop.is_new else 200, _rendered(stop))


async def list_all(gateway: Gateway, call: Call[None]) -> Answer:
    question = rpc.ListStops(call.caller.application_id)
    found = await gateway.bus.call("application", "stops", question, rpc.Stops)
    return Answer(200, EmergencyStops([_rendered(stop) for stop in found.stops]))


async def release(gateway: Gateway, call: Call[None]) -> Answer:
    named = call.parameters["channel"]
    channel = EVERY_CHANNEL if named == ALL else named
    request = rpc.ReleaseStop(call.caller.application_id, channel, call.caller.actor, call.request_id)
    await gateway.bus.call("application", "release_stop", request, rpc.Empty)
    return Answer(200, EmergencyStopReleased(_or_none(channel)))


def _rendered(stop: rpc.Stop) -> EmergencyStop:
    return EmergencyStop(_or_none(stop.channel), stop.reason, stop.actor, rfc3339(stop.since_ms))


def _or_none(channel: str) -> str | None:
    return None if channel == EVERY_CHANNEL else channel


ROUTES = (
    Route(
        method="POST",
        path="/emergency-stops",
        summary="Stop a channel, or all of them: what is not with the provider yet waits",
        scopes=("manage",),
        handler=set_stop,
        body=EmergencyStopBody,
        answer=EmergencyStop,
        status=201,
        other_statuses=(200,),
        example={"channel": "apns", "reason": "Wrong price in the campaign"},
    ),
    Route(
        method="GET",
        path="/emergency-stops",
        summary="List what is stopped now",
        scopes=("manage",),
        handler=list_all,
        answer=EmergencyStops,
    ),
    Route(
        method="DELETE",
        path="/emergency-stops/{channel}",
        summary="Release a channel, or with `all` the stop of the whole application; what waited is sent",
        scopes=("manage",),
        handler=release,
        answer=EmergencyStopReleased,
        errors=("resource_not_found",),
    ),
)
