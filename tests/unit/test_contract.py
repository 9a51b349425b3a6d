"""What `proto/` promises: it is what the code does, and what earlier releases wrote can still be read."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from libs.contract import schemas
from libs.contract.samples import SAMPLES, Sample
from libs.contract.streams import CHANNELS

ROOT = Path(__file__).resolve().parent.parent.parent
PROTO = ROOT / "proto"
SCHEMA_FILES = sorted((PROTO / "schemas").glob("*.json"))
EVERY_SAMPLE = [(name, sample) for name, versions in SAMPLES.items() for sample in versions]


def generator() -> Any:
    specification = importlib.util.spec_from_file_location("generate", PROTO / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_what_is_generated_is_current() -> None:
    assert generator().stale() == [], "make generate"


@pytest.mark.parametrize(("name", "sample"), EVERY_SAMPLE, ids=[f"{name}-v{s.version}" for name, s in EVERY_SAMPLE])
def test_golden_bytes_decode_to_what_was_written(name: str, sample: Sample) -> None:
    assert sample.decode((PROTO / sample.file(name)).read_bytes()) == sample.value


@pytest.mark.parametrize("name", SAMPLES)
def test_the_newest_golden_bytes_are_what_this_release_writes(name: str) -> None:
    newest = SAMPLES[name][-1]
    assert newest.encode() == (PROTO / newest.file(name)).read_bytes(), (
        "a changed struct wants a sample of a new version"
    )


def test_no_golden_bytes_are_forgotten() -> None:
    known = {PROTO / sample.file(name) for name, sample in EVERY_SAMPLE}
    assert set((PROTO / "golden").iterdir()) == known


@pytest.mark.parametrize("file", SCHEMA_FILES, ids=lambda file: file.stem)
def test_a_schema_is_one(file: Path) -> None:
    jsonschema_rs.meta.validate(json.loads(file.read_bytes()))


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda channel: channel.name)
def test_what_is_published_fits_its_schema(channel: Any) -> None:
    validator = jsonschema_rs.validator_for(schemas.document(channel.message))
    validator.validate(json.loads(msgspec.json.encode(channel.example)))


def test_asyncapi_refers_to_nothing_that_is_missing() -> None:
    document = json.loads((PROTO / "asyncapi.json").read_bytes())
    references = set(_references(document))
    assert references
    for reference in references:
        place = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in place, reference
            place = place[step]


def _references(part: Any) -> list[str]:
    if isinstance(part, list):
        return [found for item in part for found in _references(item)]
    if not isinstance(part, dict):
        return []
    own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
    return own + [found for item in part.values() for found in _references(item)]
