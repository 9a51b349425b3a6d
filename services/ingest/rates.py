"""Rates: what an application may send a second, and what it sends."""

from libs.api.rates import SendingRate, SendingRates
from libs.rates import Rate, asked
from services.ingest.exchange import Answer, Call, Gateway, Route

_DIGITS = 3
"""As fine as a limit can be set."""


async def list_rates(gateway: Gateway, call: Call[None]) -> Answer:
    found = await asked(gateway.bus, call.caller.application_id)
    return Answer(200, SendingRates([_rendered(each) for each in found]))


def _rendered(found: Rate) -> SendingRate:
    return SendingRate(
        channel=found.channel,
        limit=found.limit,
        effective=None if found.effective is None else round(found.effective, _DIGITS),
        achieved=round(found.achieved, _DIGITS),
        processes=found.processes,
    )


ROUTES = (
    Route(
        method="GET",
        path="/application/rates",
        summary="List messages a second, by provider: as set, as the provider allows now, and as achieved",
        scopes=("read",),
        handler=list_rates,
        answer=SendingRates,
        size="slow",
    ),
)
