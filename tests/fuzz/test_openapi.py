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


@pytest.mark.asyncio(loop_scope="module")
async def test_nothing_contradicts_the_document(shared_whole: Whole, fuzz_seconds: int, tmp_path: Path) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(docs.document(ROUTES, PREFIX, "0")))
    users = [(name, (await shared_whole.tenant()).api_key) for name in ("owner", "stranger")]
    entries = [{"name": name, "fixedHeaders": [{"name": "X-API-Key", "value": key}]} for name, key in users]
    (tmp_path / "auth.json").write_text(json.dumps({"auth": entries}))
    async with shared_whole.session.get("/livez") as answer:
        address = answer.url.origin()
    arguments = ["--config-file", str(SETTINGS), "--no-color", "run", str(document), "--url", f"{address}{PREFIX}"]
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "schemathesis"),
        *arguments,
        *("--max-time", str(fuzz_seconds)),
        cwd=tmp_path,
        env={**os.environ, "FUZZ_AUTH_FILE": str(tmp_path / "auth.json"), "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
