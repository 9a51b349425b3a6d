"""Whether a request is let in: its key, its application's rate, and with a `client` key the secret that it carries."""

from collections.abc import Mapping

from libs.bus import Bus
from libs.clock import Clock
from services.ingest.auth import HEADER, SECRET_HEADER, Caller, Keys, Secrets
from services.ingest.limits import RateLimits


class Callers:
    def __init__(self, keys: Keys, bus: Bus, clock: Clock) -> None:
        self._keys = keys
        self._secrets = Secrets(bus, clock)
        self._limits = RateLimits(bus, clock)

    async def admit(self, headers: Mapping[str, str], told: dict[str, str]) -> Caller:
        """`told` gets the headers that say how the application's rate stands, as soon as it is known which one it is.

        Raises `AuthenticationFailed`, `RateLimitExceeded`, `ServiceUnavailable`. A wrong secret counts as a request:
        nobody guesses faster than the rate.
        """
        caller = await self._keys.identify(headers.get(HEADER))
        await self._limits.admit(caller, told)
        secret = headers.get(SECRET_HEADER)
        if secret is None or not caller.bearer_only:
            return caller
        return await self._secrets.bearer(caller, secret)
