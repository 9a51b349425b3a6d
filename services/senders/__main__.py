"""One sender process: one channel, one region, and those of its neighbours while they are deserted. Needs only NATS."""

import contextlib

from libs.bus import Bus
from libs.envelope import Lane
from libs.errors import SignalError
from libs.policies import PolicyBoard
from libs.presence import Presence, alive
from libs.reference_time import follow, reference_clock
from libs.service import Runtime, main
from libs.stops import StopBoard

from .apns import ApnsSender
from .breaker import BreakerBoard
from .contract import Sender
from .credential_cache import CredentialCache
from .deliver import Pipeline
from .fcm import FcmSender
from .rate import Rates
from .settings import Settings
from .takeover import Regions


def make_sender(settings: Settings, runtime: Runtime) -> Sender:
    if settings.sender.channel == "apns":
        apns = settings.apns
        return ApnsSender(
            apns.production_url, apns.development_url, apns.ca_file, apns.connections, apns.timeout, runtime.clock
        )
    fcm = settings.fcm
    return FcmSender(fcm.base_url, fcm.ca_file, fcm.connections, fcm.timeout, runtime.clock)


async def start(settings: Settings, runtime: Runtime) -> None:
    own = settings.sender
    sender = make_sender(settings, runtime)
    runtime.on_stop(sender.close)
    bus = await Bus.join(runtime, settings.nats, f"sender-{own.channel}-{own.region}")
    await bus.ensure_streams()
    reference = reference_clock(bus, runtime.clock)
    with contextlib.suppress(SignalError):
        await reference.synchronise()  # or a short ttl would be judged by our own clock
    runtime.spawn(follow(reference), "clock")
    credentials = CredentialCache(bus, own.channel, runtime.clock)
    breakers = BreakerBoard(bus, runtime.clock, reference, own)
    runtime.spawn(breakers.run(), "breakers")
    stops = StopBoard(bus, runtime.clock)
    rates = Rates(bus, PolicyBoard(bus, runtime.clock), own.channel, runtime.clock, reference)
    runtime.spawn(rates.run(), "rates")

    def pipeline(lane: Lane, region: str) -> Pipeline:
        return Pipeline(bus, sender, credentials, breakers, stops, runtime.clock, reference, lane, region, own, rates)

    presence = Presence(bus, runtime.clock, alive(own.channel, own.region, runtime.clock))
    runtime.spawn(presence.run(), "presence")
    runtime.serve(Regions(bus, presence, own, pipeline, runtime.spawn), "regions")


if __name__ == "__main__":
    main("sender", Settings, start)
