"""A body of many lines, cut into parts as it arrives: NDJSON by lines, CSV by records. A part fits into memory.

The cuts depend on the bytes alone, so that the same file sent again falls into the same parts.
"""

import csv
import hashlib
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

from libs.errors import ValidationFailed
from services.ingest.errors import Reason

MAX_LINES = 2_000
"""Lines of one part."""
MAX_BYTES = 512 * 1024
"""Bytes after which a part is full; one line may have at most as many."""
MAX_NAMES = 4 * 1024 * 1024
"""Bytes by which a part of a CSV may grow on its way: there each line names all columns."""
_BOM = b"\xef\xbb\xbf"


class Part(NamedTuple):
    """Whole records of the file."""

    first_line: int
    """Counted from 1."""
    lines: list[bytes]
    """Without their line feeds; a quoted field of a CSV may span several."""

    def digest(self) -> bytes:
        return hashlib.sha256(b"\n".join(self.lines)).digest()


async def parts(pieces: AsyncIterator[bytes], *, quoted: bool) -> AsyncIterator[Part]:
    """`quoted`: a line feed between double quotes ends no record (RFC 4180 §2.6). Raises `ValidationFailed`."""
    cut = _Cutter(quoted)
    async for piece in pieces:
        for part in cut.take(piece):
            yield part
    for part in cut.rest():
        yield part


class _Cutter:
    def __init__(self, quoted: bool) -> None:
        self._quoted = quoted
        self._tail = b""
        self._lines: list[bytes] = []
        self._size = 0
        self._line = 1
        self._most = 0 if quoted else MAX_LINES
        """Lines of a part; 0 while the names of the columns are not known."""
        self._open = False
        """Within quotes."""

    def take(self, piece: bytes) -> Iterator[Part]:
        *lines, self._tail = (self._tail + piece).split(b"\n")
        for line in lines:
            yield from self._add(line)
        if len(self._tail) > MAX_BYTES:
            raise self._too_long()

    def rest(self) -> Iterator[Part]:
        if self._tail:
            yield from self._add(self._tail)
        if self._open:
            raise ValidationFailed(fields={f"line {self._line + len(self._lines) - 1}": Reason("unclosed_quote")})
        if self._lines:
            yield self._full()

    def _add(self, line: bytes) -> Iterator[Part]:
        self._lines.append(line)
        self._size += len(line) + 1
        if self._quoted and line.count(b'"') % 2:
            self._open = not self._open
        if self._open and self._size > 2 * MAX_BYTES:
            raise self._too_long()
        if self._open:
            return
        self._most = self._most or min(MAX_LINES, 1 + MAX_NAMES // self._size)
        if len(self._lines) >= self._most or self._size >= MAX_BYTES:
            yield self._full()

    def _full(self) -> Part:
        part = Part(self._line, self._lines)
        self._line += len(self._lines)
        self._lines, self._size = [], 0
        return part

    def _too_long(self) -> ValidationFailed:
        return ValidationFailed(fields={f"line {self._line + len(self._lines)}": Reason("maxBytes", MAX_BYTES)})


class Records:
    """Turns the lines of a CSV into records by the names in its first line."""

    def __init__(self) -> None:
        self._names: list[str] | None = None
        self._encoding = ""

    def read(self, part: Part) -> Iterator[tuple[int, dict[str, str] | None]]:
        """Each record's last line and its fields; None where the line is no record. Raises `ValidationFailed`."""
        encoding = self._encoding or self._guess(part)
        texts = [line.decode(encoding, "replace") + "\n" for line in part.lines]
        if part.first_line == 1:
            texts[0] = texts[0].removeprefix("\ufeff")
        reader = csv.reader(texts, strict=True)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                yield part.first_line + reader.line_num - 1, None
                continue
            line = part.first_line + reader.line_num - 1
            if self._names is None:
                self._names = _names(row)
            elif row:
                yield line, _record(self._names, row)

    def _guess(self, part: Part) -> str:
        """UTF-8, with or without a mark; else CP949, which Korean spreadsheets write. ASCII may become either."""
        content = b"\n".join(part.lines)
        if content.isascii():
            return "ascii"
        try:
            content.removeprefix(_BOM).decode()
            self._encoding = "utf-8"
        except UnicodeDecodeError:
            self._encoding = "cp949"
        return self._encoding


def _names(row: list[str]) -> list[str]:
    names = [name.strip() for name in row]
    missing = {name: Reason("required") for name in ("type", "token") if name not in names}
    if missing:
        raise ValidationFailed(fields=missing)
    if len(set(names)) < len(names):
        raise ValidationFailed(fields={"line 1": Reason("repeated")})
    return names


def _record(names: list[str], row: list[str]) -> dict[str, str] | None:
    """Empty fields are as if they were not there."""
    if len(row) != len(names) or any("\ufffd" in field for field in row):
        return None
    return {name: field for name, field in zip(names, row, strict=True) if field != ""}
