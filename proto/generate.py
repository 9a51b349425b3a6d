"""Writes what is generated in `proto/` and `docs/` from the code; with --check, says instead what is not current.

A golden sample is written once and never again: it is what a release wrote.
"""

import importlib
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from libs.contract import asyncapi, schemas, sdk
from libs.contract.pages import scopes_page, settings_page, subjects_page
from libs.contract.samples import SAMPLES
from libs.contract.verbs import verbs
from services.ingest import docs
from services.ingest.routes import PREFIX, ROUTES

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("ingest", "application", "subscription", "templating", "lifecycle", "dispatcher", "senders", "sandbox")


def documents() -> dict[Path, bytes]:
    """Every generated file but the golden samples."""
    all_verbs = verbs()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    found: dict[Path, bytes] = {
        Path("proto/asyncapi.json"): _json(asyncapi.document(version)),
        Path("libs/client/operations.py"): sdk.module(ROUTES).encode(),
        Path("proto/openapi.json"): _json(docs.document(ROUTES, PREFIX, version)),
        Path("proto/scopes.md"): scopes_page(ROUTES).encode(),
        Path("proto/subjects.md"): subjects_page(all_verbs).encode(),
        Path("docs/settings.md"): settings_page(_settings()).encode(),
    }
    for name, kind in schemas.ON_STREAMS.items():
        found[Path(f"proto/schemas/{name}.json")] = _json(schemas.document(kind))
    for service in dict.fromkeys(verb.service for verb in all_verbs):
        own = [verb for verb in all_verbs if verb.service == service]
        found[Path(f"proto/schemas/rpc_{service}.json")] = _json(schemas.rpc_document(service, own))
    return found


def golden() -> dict[Path, bytes]:
    """The newest sample of each, by its file."""
    newest = {name: versions[-1] for name, versions in SAMPLES.items()}
    return {Path("proto") / sample.file(name): sample.encode() for name, sample in newest.items()}


def stale() -> list[Path]:
    """Files that are missing or differ from what the code says, and files that nothing writes any more."""
    wanted = documents()
    differing = [path for path, content in wanted.items() if _read(path) != content]
    missing = [path for path in golden() if _read(path) is None]
    left_over = [
        path.relative_to(ROOT) for path in (ROOT / "proto/schemas").glob("*") if path.relative_to(ROOT) not in wanted
    ]
    return sorted([*differing, *missing, *left_over])


def write() -> None:
    for path, content in documents().items():
        _place(path, content)
    for path, content in golden().items():
        if not (ROOT / path).exists():
            _place(path, content)


def _settings() -> dict[str, type[msgspec.Struct]]:
    found = {name: importlib.import_module(f"services.{name}.settings").Settings for name in SERVICES}
    return {**found, "automata migrate": importlib.import_module("services.cli.migrate").Settings}


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _read(path: Path) -> bytes | None:
    return (ROOT / path).read_bytes() if (ROOT / path).exists() else None


def _place(path: Path, content: bytes) -> None:
    (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
    (ROOT / path).write_bytes(content)


def main(arguments: list[str]) -> None:
    if arguments == ["--check"]:
        found = stale()
        if found:
            sys.exit(f"not current (make generate): {', '.join(map(str, found))}")
        return
    write()


if __name__ == "__main__":
    main(sys.argv[1:])
