"""Lengths of time on the command line: `90d`, `24h`, `30m`, `45s`, `2w`."""

import re

import click

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FORM = re.compile(r"(\d{1,9})([smhdw])")


class Duration(click.ParamType[int]):
    """Seconds."""

    name = "duration"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _FORM.fullmatch(value)
        if found is None:
            self.fail(f"{value!r} is not a length of time such as 90d, 24h or 30m", param, ctx)
        return int(found[1]) * SECONDS[found[2]]
