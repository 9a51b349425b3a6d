"""`pytest tests/fuzz --fuzz-seconds 1800 --fuzz-seed random` is the long run; a plain `pytest` searches for less than a
minute, and takes the same way each time."""

import pytest

SECONDS = 40
SEED = "1"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-seconds", type=int, default=SECONDS, help="how long the API is searched, in all")
    parser.addoption("--fuzz-seed", default=SEED, help="a number, or `random`")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "fuzz_seconds" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(120 + 2 * int(config.getoption("--fuzz-seconds", default=SECONDS))))


@pytest.fixture
def fuzz_seconds(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--fuzz-seconds", default=SECONDS))


@pytest.fixture
def fuzz_seed(pytestconfig: pytest.Config) -> str:
    return str(pytestconfig.getoption("--fuzz-seed", default=SEED))
