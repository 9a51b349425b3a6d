"""Settings of the dispatcher."""

import msgspec

from libs.config import Health, Keys, Nats


class Dispatcher(msgspec.Struct, frozen=True):
    region: str = "local"
    """Region whose senders take the deliveries."""
    slots: int = 8
    """Envelopes of one lane in hand at once."""


class Settings(msgspec.Struct, frozen=True):
    keys: Keys
    nats: Nats = Nats()
    health: Health = Health()
    dispatcher: Dispatcher = Dispatcher()
