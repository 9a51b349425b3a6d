"""One sender process, its clock, and the lifecycle that it asks."""

import pytest

from libs.clock import FakeClock
from tests.unit.breaker_harness import Lifecycle, Process


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def lifecycle() -> Lifecycle:
    return Lifecycle()


@pytest.fixture
def process(clock: FakeClock, lifecycle: Lifecycle) -> Process:
    return Process(clock, lifecycle)
