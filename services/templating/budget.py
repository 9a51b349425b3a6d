"""How much work rendering one message may be. It counts steps, so that the same template with the same variables always
ends the same way; processor time is the second fence, for what steps do not weigh well."""

from time import thread_time
from typing import Any

MAX_STEPS = 10_000
"""Each node, variable and filter is a step, and so is each `GRAIN` of data that a filter or an assignment touches."""
MAX_CPU = 0.015
"""Seconds of this thread's processor time, so that a busy machine refuses nothing."""
MAX_OUTPUT = 64 * 1024
"""Bytes of UTF-8 that title, body and data may have together."""
MAX_SIZE = 64 * 1024
"""Of one value that a filter takes or gives, as `size_of` counts."""
GRAIN = 64
"""Characters. An item of a list weighs as much, so that a list of 1,000 is about the longest that a filter takes."""

_SPENDS_PER_LOOK = 8
"""Looking at the clock costs as much as a step."""
_MAX_BITS = 64


class TooMuchWork(Exception):
    """A template went beyond what one message may cost."""


class Budget:
    """Of one message: what is spent on its title is gone for its body."""

    __slots__ = ("_deadline", "_looks", "_steps", "output")

    def __init__(self) -> None:
        self._steps = MAX_STEPS
        self._deadline = thread_time() + MAX_CPU
        self._looks = 0
        self.output = MAX_OUTPUT
        """Bytes left."""

    def spend(self, steps: int) -> None:
        """Raises `TooMuchWork`."""
        self._steps -= steps
        if self._steps < 0:
            raise TooMuchWork
        self._looks += 1
        if (self._looks >= _SPENDS_PER_LOOK or steps > _SPENDS_PER_LOOK) and self._late():
            raise TooMuchWork

    def spend_on(self, size: int) -> None:
        """One step, and more for much data. Raises `TooMuchWork`, too when one value is too large."""
        if size > MAX_SIZE:
            raise TooMuchWork
        self.spend(1 + size // GRAIN)

    def _late(self) -> bool:
        self._looks = 0
        return thread_time() > self._deadline


def size_of(value: Any) -> int:
    """Characters, and `GRAIN` for each item and key; more than `MAX_SIZE` for a number beyond 64 bits."""
    kind = type(value)
    if kind is str:
        return len(value)
    if kind is int:
        return 1 if value.bit_length() <= _MAX_BITS else MAX_SIZE + 1
    if kind is list or kind is tuple:
        return sum(GRAIN + size_of(item) for item in value)
    if kind is dict:
        return sum(2 * GRAIN + len(key) + size_of(item) for key, item in value.items())
    return 1
