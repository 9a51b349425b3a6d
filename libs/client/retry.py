"""When the SDK tries again (SEQ-001 §7): pure."""

import random
from collections.abc import Callable

import msgspec

RETRIED_STATUSES = frozenset({429, 500, 502, 503, 504})
"""Of anybody's making but the caller's; all other refusals would be the same again."""

LONGEST_WAIT = 300.0
"""Seconds; who is told to wait for longer decides himself."""


class Retries(msgspec.Struct, frozen=True):
    """Pauses of 1, 2, 4 … 60 seconds, shortened by up to half at random, so that clients do not come in step."""

    attempts: int = 5
    """Tries in all; 1 switches repetition off."""
    first_pause: float = 1.0
    """Seconds."""
    longest_pause: float = 60.0

    def pause(
        self, attempt: int, retry_after: float | None = None, chance: Callable[[], float] = random.random
    ) -> float | None:
        """Seconds to wait after try number `attempt` failed; None: give up. `Retry-After` is a floor."""
        if attempt >= self.attempts or (retry_after or 0.0) > LONGEST_WAIT:
            return None
        longest = min(self.longest_pause, self.first_pause * 2.0 ** (attempt - 1))
        return max(longest * (1 - chance() / 2), retry_after or 0.0)
