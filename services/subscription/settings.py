"""Settings of the subscription service."""

import msgspec

from libs.config import Database, Health, Keys, Nats


class Settings(msgspec.Struct, frozen=True):
    database: Database
    keys: Keys
    nats: Nats = Nats()
    health: Health = Health()
