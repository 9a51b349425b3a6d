"""`pytest tests/faults -m faults --messages 20000` is the suite; `-m kills --messages 2000` the short form for CI.

Left out of a plain `pytest tests`: it starts whole systems and kills them.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.report import RESULTS
from tests.faults.story import Story
from tests.faults.system import SHORT_RETRIES, System

DEFAULT_MESSAGES = 2_000
TEST_SECONDS = 420


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--messages", type=int, default=DEFAULT_MESSAGES, help="messages that flow in each fault test")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "faults: starts a whole system and breaks a part of it")
    config.addinivalue_line("markers", "kills: the short form of the fault suite, run in CI")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    ours = [item for item in items if item.path.is_relative_to(here) and item.get_closest_marker("faults")]
    for item in ours:
        item.add_marker(pytest.mark.timeout(TEST_SECONDS))
    if not _asked_for(config):
        config.hook.pytest_deselected(items=ours)
        items[:] = [item for item in items if item not in ours]


def _asked_for(config: pytest.Config) -> bool:
    expression = str(config.getoption("markexpr", ""))
    named = any("tests/faults" in Path(argument).as_posix() for argument in config.args)
    return "faults" in expression or "kills" in expression or named


@pytest.fixture
def messages(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--messages", default=DEFAULT_MESSAGES))


@pytest.fixture(scope="module")
def module_story(request: pytest.FixtureRequest) -> Iterator[Story]:
    """One system for all tests of a module. `RETRY_SCALE` in the module shortens its retry table further."""
    scale = getattr(request.module, "RETRY_SCALE", None)
    environment = SHORT_RETRIES if scale is None else {"AUTOMATA_RETRY__SCALE": str(scale)}
    messages = int(request.config.getoption("--messages", default=DEFAULT_MESSAGES))
    yield from run_story(request, System(environment), messages)


@pytest.fixture
def story(module_story: Story) -> Story:
    return module_story


def run_story(request: pytest.FixtureRequest, system: System, messages: int) -> Iterator[Story]:
    """Up, the test or tests, down. The logs of a system in which something failed are kept."""
    failed_before = request.session.testsfailed
    try:
        system.up()
        yield Story(system, messages)
    finally:
        if request.session.testsfailed > failed_before:
            _keep_logs(system, request.node.name)
        system.down()


def _keep_logs(system: System, name: str) -> None:
    kept = RESULTS / "logs" / Path(name).stem.replace("/", "_")
    kept.mkdir(parents=True, exist_ok=True)
    for path in system.logs():
        shutil.copy(path, kept / path.name)
