"""Settings of the dispatcher."""

from typing import Annotated

import msgspec

from libs.config import Health, Keys, Nats
from libs.subjects import Region

Country = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}\Z")]
"""ISO 3166-1 alpha-2, as a subscription has it."""


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
