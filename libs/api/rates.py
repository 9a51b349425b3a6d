"""Rates: how many messages a second an application may send to a provider, and how many go out."""

import msgspec


class SendingRate(msgspec.Struct, frozen=True):
    """Of one channel, all senders together; in messages a second."""

    channel: str
    limit: float | None
    """As set (`rates` in the application's settings); null: as fast as it goes."""
    effective: float | None
    """What may go out now: less than `limit` after the provider refused some as too many; 0 while it wants a pause,
    for a minute at most; null: as fast as it goes."""
    achieved: float
    """What the provider took, or refused for good, a second: the mean of the last five seconds."""
    processes: int
    """Senders of the channel that answered in time: with none, messages wait."""


class SendingRates(msgspec.Struct, frozen=True):
    """Answer to GET /application/rates: channels that have a limit, and those on which something goes out now."""

    rates: list[SendingRate]
