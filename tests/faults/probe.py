"""One request and how long its answer took: an honest 503 comes at once."""

import time

import aiohttp
import msgspec

from tests.faults.ledger import Attempt
from tests.faults.load import Flow, note_answer
from tests.faults.plan import body_of, single


class Told(msgspec.Struct, frozen=True):
    status: int
    retry_after: str | None
    seconds: float


async def ask(flow: Flow, timeout: float = 30.0) -> Told:
    """One `POST /messages` beside the plan, not repeated; the client's ledger has it. Raises `aiohttp.ClientError`."""
    request = single(flow.a_subscription())
    request.fragile = True
    flow.client.note(request)
    began, started = time.time(), time.monotonic()
    async with flow.session(timeout) as session:
        headers = {"Content-Type": "application/json", "Idempotency-Key": request.key}
        async with session.post(f"{flow.api}{request.path}", data=body_of(request, None), headers=headers) as response:
            body = await response.read()
            told = Told(response.status, response.headers.get("Retry-After"), time.monotonic() - started)
    request.attempts.append(Attempt(began, str(told.status)))
    if told.status < 500 and told.status != 429:
        note_answer(request, told.status, msgspec.json.decode(body))
    else:
        request.state = "given_up"
    return told
