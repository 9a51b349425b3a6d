"""The table at the edge is total: every code and every field reason can be told, in both languages."""

import ast
from pathlib import Path

import pytest

from libs import errors as tree
from services.ingest import errors
from services.ingest.errors import REASONS, TABLE, Reason, describe, language_of, status_of


def test_every_code_has_a_status_and_two_texts() -> None:
    assert set(TABLE) == set(tree.BY_CODE)
    for entry in TABLE.values():
        assert 400 <= entry.status < 600
        assert entry.en.isascii()
        assert not entry.ko.isascii()


def test_every_reason_named_in_the_code_has_two_texts() -> None:
    folder = Path(errors.__file__).parent
    named = {
        call.args[0].value
        for path in folder.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Reason"
        if isinstance(call.args[0], ast.Constant)
    }
    by_schema = {f"{bound}{what}" for bound in ("min", "max") for what in ("Length", "Items", "Properties", "imum")}
    by_templating = {"liquid", "liquid_value", "liquid_work", "version_size", "taken", "locale", "locale_or_channel"}
    assert named | by_schema | by_templating == set(REASONS)
    assert all(english.isascii() and not korean.isascii() for english, korean in REASONS.values())


def test_codes_speak_the_language_asked_for() -> None:
    error = tree.ValidationFailed(fields={"title": Reason("maxLength", 5)})
    assert describe(error, "en")["details"] == {"fields": {"title": "must have at most 5 characters"}}
    assert describe(error, "ko")["details"] == {"fields": {"title": "5자 이하여야 합니다"}}


def test_what_is_unknown_is_500_and_keeps_to_itself() -> None:
    class Novel(tree.SignalError):
        code = "novel"

    for error in (Novel(secret="x"), tree.InternalError(secret="x")):
        assert status_of(error) == 500
        assert describe(error, "en")["code"] == "internal_server_error"
        assert describe(error, "en")["details"] == {}


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("ko", "ko"),
        ("KO-kr", "ko"),
        ("ko-KR,ko;q=0.9,en-US;q=0.8", "ko"),
        ("en,ko;q=0.9", "en"),
        ("fr,ko;q=0.1", "ko"),
        ("ko;q=0", "en"),
        ("ko;q=x", "en"),
        ("ko;q=nan", "en"),
        ("*", "en"),
        (";;,,=", "en"),
        ("x" * 5000, "en"),
    ],
)
def test_language(header: str, language: str) -> None:
    assert language_of(header) == language
