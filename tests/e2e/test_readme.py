"""README's "Your first message" is what happens: its commands are run as they stand there."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SECTION = re.compile(r"^## Your first message$(.+?)^## ", re.MULTILINE | re.DOTALL)
ARRIVAL_SECONDS = 30.0

pytestmark = pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="wants curl and bash")


def steps() -> list[str]:
    section = SECTION.search((ROOT / "README.md").read_text())
    assert section is not None
    return re.findall(r"```bash\n(.+?)```", section[1], re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A directory in which `make run` has been called: `.venv` is there, `.data` runs."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    automata = [str(tmp_path / ".venv" / "bin" / "automata")]
    try:
        subprocess.run([*automata, "up", "--detach"], cwd=tmp_path, check=True, capture_output=True, timeout=100)
        yield tmp_path
    finally:
        subprocess.run([*automata, "down"], cwd=tmp_path, check=False, capture_output=True, timeout=60)


def run(checkout: Path, script: str) -> str:
    return subprocess.run(
        ["bash", "-e", "-c", script], cwd=checkout, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def arrived(checkout: Path, message_id: str) -> bool:
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while time.monotonic() < deadline:
        if "successful" in run(checkout, f".venv/bin/automata events show {message_id}"):
            return True
    return False


def test_the_first_message_goes_as_the_readme_says(checkout: Path) -> None:
    register, send, look = steps()
    run(checkout, register)
    subscription = json.loads((checkout / "subscription.json").read_bytes())["data"]
    assert subscription["subscription_status"] == 1
    connect = register.splitlines()[0]
    run(checkout, f"{connect}\n{send}")
    message = json.loads((checkout / "message.json").read_bytes())["data"]
    assert message["status"] == "pending"
    assert arrived(checkout, message["message_id"])
    shown = run(checkout, f"{connect}\n{look}")
    assert '"status":"successful"' in shown
    assert "APNs accepted it" in shown
    assert '"status":"converted"' in shown
