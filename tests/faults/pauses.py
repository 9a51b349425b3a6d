"""How long nothing got through: what a failover costs."""

from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise

from tests.faults.ledger import Call, Client


def longest_pause(calls: Iterable[Call], since: float, until: float) -> float:
    """Seconds between two calls that a provider accepted, one after the other; both ends are Unix seconds."""
    times = sorted(datetime.fromisoformat(call.at).timestamp() for call in calls if call.accepted)
    return _longest([since, *(at for at in times if since < at < until), until])


def longest_refusal(client: Client, since: float, until: float) -> float:
    """Seconds between two requests, one after the other, whose items were accepted."""
    good = sorted(a.at for r in client.requests for a in r.attempts if a.answer in ("200", "201"))
    return _longest([since, *(at for at in good if since < at < until), until])


def count(client: Client, answer: str) -> int:
    """Tries that were answered so."""
    return sum(a.answer == answer for r in client.requests for a in r.attempts)


def _longest(times: list[float]) -> float:
    return max((later - earlier for earlier, later in pairwise(times)), default=0.0)
