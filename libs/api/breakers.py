"""Circuit breakers: providers that an application's messages do not reach at the moment."""

from typing import Literal

import msgspec

from libs.api.fields import Time


class Breaker(msgspec.Struct, frozen=True):
    """Open: no calls are made, and messages wait. Half open: single messages try whether the provider works again."""

    channel: str
    state: Literal["open", "half_open"]
    cause: Literal["credentials", "outage", "network"]
    reason: str
    """Of the last failure: the provider's own word where it gave one."""
    why: str
    """The same as a sentence, in English, or in Korean with `Accept-Language: ko`."""
    since: Time
    next_probe_at: Time
    failures: int
    """Probes that failed since it opened, the first failure included."""
    waiting: int
    """Messages that wait for it."""
    waiting_is_estimate: bool = False
    """Counted to 10,000: there are as many or more."""


class Breakers(msgspec.Struct, frozen=True):
    """Answer to GET /application/breakers: what is open now; nothing, when all is well."""

    breakers: list[Breaker]
