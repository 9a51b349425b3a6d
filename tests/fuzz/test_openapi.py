"""The running API does what `proto/openapi.json` says of it: searched by schemathesis, single calls and sequences."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from services.ingest import docs
from services.ingest.routes import PREFIX, ROUTES
from tests.contract.whole_platform import Whole

pytest_plugins = ["tests.contract.whole_fixtures"]
SETTINGS = Path(__file__).parent / "schemathesis.toml"
ROOT = SETTINGS.parent.parent.parent
PROGRAM = Path(sys.executable).parent / "schemathesis"


@pytest.mark.parametrize("phases", ["examples,coverage,fuzzing", "stateful"])
@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_contradicts_the_document(
    shared_whole: Whole, fuzz_seconds: int, fuzz_seed: str, tmp_path: Path, phases: str
) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(docs.document(ROUTES, PREFIX, "0")))
    (tmp_path / "auth.json").write_text(
        json.dumps({"auth": [await _user(shared_whole, n) for n in ("owner", "stranger")]})
    )
    async with shared_whole.session.get("/livez") as answer:
        address = f"{answer.url.origin()}{PREFIX}"
    bounds = ["--phases", phases, "--max-time", str(fuzz_seconds // 2)]
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), "--config-file", str(SETTINGS), "--no-color", "run", "openapi.json", "--url", address, *bounds),
        *([] if fuzz_seed == "random" else ["--seed", fuzz_seed]),
        cwd=tmp_path,
        env={**os.environ, "FUZZ_AUTH_FILE": "auth.json", "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def _user(whole: Whole, name: str) -> dict[str, object]:
    """In the form of Web Fuzzing Commons."""
    return {"name": name, "fixedHeaders": [{"name": "X-API-Key", "value": (await whole.tenant()).api_key}]}
