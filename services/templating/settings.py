"""Settings of the templating service."""

import msgspec

from libs.config import Database, Health, Nats


class Settings(msgspec.Struct, frozen=True):
    database: Database
    nats: Nats = Nats()
    health: Health = Health()
