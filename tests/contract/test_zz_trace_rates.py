import asyncio, time, sys
from collections import Counter
sys.path.insert(0,'/work/main')
from tests.contract.test_sender_rates import *
from tests.contract.streams_harness import *
async def test_trace(nats_settings):
    async with platform(nats_settings) as both:
        t0=time.monotonic()
        for _ in range(6): await both.give(*deliveries(250))
        for _ in range(40): await both.give(delivery())
        while len(both.calls())<1540 and time.monotonic()-t0<14:
            await asyncio.sleep(0.5)
            r=[]
            for p in both.processes:
                pc=p.rates.pace(APPLICATION)
                now=p.reference.now_ms()
                if pc: r.append((len(pc._waiting), pc._slots.count, round(pc._slots.start_ms-now), pc._known and round(pc._known.next_ms-now), pc._known and round(pc._known.line_ms-now), pc._away_until_ms>now, len(pc._known.members) if pc._known else 0))
            print(round(time.monotonic()-t0,1), len(both.calls()), len(both._due), Counter(len(s) for s in both.said.values()), r)
