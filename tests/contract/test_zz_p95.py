import asyncio, pytest
from libs.clock import SystemClock
from services.senders.settings import Sender as SenderSettings
from services.senders.contract import TryLater
from tests.contract import test_sender_neighbours as m
from tests.contract.sender_harness import *
from tests.contract.streams_harness import *
async def hang(_):
    await asyncio.sleep(10); return TryLater("timeout","network",unknown=True)
@pytest.mark.parametrize("n",[1,8])
async def test_p95(nats_settings,n):
    async with sending(nats_settings, SenderSettings(CHANNEL), clock=SystemClock()) as h:
        h.sender.providers[APPLICATION]=m.healthy
        sick=m.with_tenants(h,n); h.sender.providers|=dict.fromkeys(sick,hang)
        alone=await m.flow(h,3)
        async def load():
            while True:
                for each in sick:
                    await h.give(delivery(),application_id=each); await h.give(*deliveries(20),application_id=each)
                await asyncio.sleep(0.2)
        t=asyncio.create_task(load())
        beside=await m.flow(h,11); t.cancel()
        q=lambda w,p: round(w[int(len(w)*p)-1]*1000,2)
        print("\ntenants",n,"alone p50/p95/max",q(alone,.5),q(alone,.95),q(alone,1),"beside",q(beside,.5),q(beside,.95),q(beside,1),"calls",len(h.sender.calls))
