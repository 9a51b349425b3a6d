import asyncio, time, resource
import uvloop
from tests.contract.sender_harness import *
from tests.contract.streams_harness import *
from libs.clock import SystemClock
LAT=float(__import__('os').environ.get('LAT','0.01')); N=int(__import__('os').environ.get('N','20000')); SIZE=int(__import__('os').environ.get('SIZE','500'))
def test_speed(nats_settings):
    async def go():
        kw={}
        try:
            import services.senders.outstanding; kw={'clock':SystemClock()}
        except ImportError: pass
        async with sending(nats_settings, SenderSettings(CHANNEL), **kw) as h:
            async def ok(item):
                await asyncio.sleep(LAT); return Accepted(item.message_id)
            h.sender._answer=ok
            if hasattr(h.sender,'providers'): h.sender.providers[APPLICATION]=ok
            envs=[deliveries(SIZE) for _ in range(N//SIZE)]
            done=0
            async def count():
                nonlocal done
                while done<N: done+=len(await h.reported(1))
            # publish before measuring is impossible (consumer runs): publish quickly
            t=time.perf_counter(); c=time.process_time()
            task=asyncio.create_task(count())
            for e in envs: await h.give(*e)
            await task
            w=time.perf_counter()-t
            print(f"\nSIZE {SIZE} LAT {LAT}: {N/w:.0f}/s, cpu {1e6*(time.process_time()-c)/N:.0f} us/msg, rss {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1024} MB")
    uvloop.run(go())
