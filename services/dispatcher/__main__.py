"""The dispatcher: who is to get it, may they, and through which sender."""

import contextlib

from libs import ring as key_ring
from libs.bus import Bus
from libs.envelope import LANES
from libs.errors import SignalError
from libs.policies import PolicyBoard
from libs.presence import Presence
from libs.reference_time import follow, reference_clock
from libs.seal import KeyRing
from libs.service import Runtime, main
from libs.stops import StopBoard

from .dispatch import Dispatch
from .regions import Regions
from .settings import Settings
from .unserved import Unserved


async def start(settings: Settings, runtime: Runtime) -> None:
    own = settings.dispatcher
    ring = KeyRing.load(settings.keys.ring_file)
    bus = await Bus.join(runtime, settings.nats, "dispatcher")
    await bus.ensure_streams()
    clock = reference_clock(bus, runtime.clock)
    with contextlib.suppress(SignalError):
        await clock.synchronise()  # or a short ttl would be judged by our own clock
    runtime.spawn(follow(clock), "clock")
    runtime.spawn(key_ring.follow(ring, bus, "dispatcher"), "ring")
    stops = StopBoard(bus, runtime.clock)
    policies = PolicyBoard(bus, runtime.clock)
    regions = Regions(own.region, own.regions)
    presence = Presence(bus, runtime.clock)
    runtime.spawn(presence.run(), "presence")
    runtime.spawn(Unserved(bus, presence, regions).run(), "unserved")
    for lane in LANES:
        dispatch = Dispatch(bus, ring, clock, stops, policies, lane, regions, own.slots)
        runtime.serve(dispatch.consumer, f"dispatch_{lane}")


if __name__ == "__main__":
    main("dispatcher", Settings, start)
