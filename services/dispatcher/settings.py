"""Settings of the dispatcher."""

import msgspec

from libs.config import Health, Keys, Nats
from libs.subjects import Country, Region


class Dispatcher(msgspec.Struct, frozen=True):
    region: Region = "local"
    """Region whose senders take the deliveries of every country that is not in `regions`."""
    regions: dict[Country, Region] = {}
    """Country to region, such as `{"KR":"icn","DE":"fra"}`, or in short `KR=icn,DE=fra`."""
    slots: int = 8
    """Envelopes of one lane in hand at once."""


class Settings(msgspec.Struct, frozen=True):
    keys: Keys
    nats: Nats = Nats()
    health: Health = Health()
    dispatcher: Dispatcher = Dispatcher()
