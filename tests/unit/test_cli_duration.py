"""Lengths of time on the command line."""

import click
import pytest

from services.cli.duration import Duration


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45), ("30m", 1800), ("24h", 86_400), ("90d", 7_776_000), ("2w", 1_209_600), ("0s", 0)]
)
def test_a_number_and_a_unit_are_seconds(text: str, seconds: int) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "90", "d", "-1d", "1.5h", "1y", "1d ", "1d2h", "9" * 10 + "s"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)
