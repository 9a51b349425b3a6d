"""`pytest tests/fuzz --fuzz-seconds 1800` is the long run; a plain `pytest` searches for half a minute."""

import pytest

SECONDS = 40


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz-seconds", type=int, default=SECONDS, help="how long the API is searched for contradictions"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "fuzz_seconds" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(120 + 2 * config.getoption("--fuzz-seconds", default=SECONDS)))


@pytest.fixture
def fuzz_seconds(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--fuzz-seconds", default=SECONDS))
