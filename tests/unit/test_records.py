"""Bodies of many lines fall into the same parts however they arrive."""

from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import ValidationFailed
from services.ingest.records import MAX_BYTES, MAX_LINES, MAX_NAMES, Part, Records, parts


async def cut(body: bytes, sizes: list[int], *, quoted: bool = False) -> list[Part]:
    async def pieces() -> AsyncIterator[bytes]:
        rest = body
        for size in sizes:
            yield rest[:size]
            rest = rest[size:]
        yield rest

    return [part async for part in parts(pieces(), quoted=quoted)]


@given(st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b"")), max_size=50), st.data())
async def test_the_cuts_depend_on_the_bytes_alone(lines: list[bytes], data: st.DataObject) -> None:
    body = b"\n".join(lines)
    sizes = data.draw(st.lists(st.integers(0, 60), max_size=20))
    assert await cut(body, sizes) == await cut(body, [])


async def test_lines_are_counted_on_from_part_to_part() -> None:
    found = await cut(b"x\n" * (2 * MAX_LINES + 1), [1000])
    assert [len(part.lines) for part in found] == [MAX_LINES, MAX_LINES, 1]
    assert all(after.first_line == before.first_line + len(before.lines) for before, after in pairwise(found))


async def test_a_record_in_quotes_is_not_cut_in_two() -> None:
    rows = b'type,token\nEmail,"a\nb"\n' + b"Email,c\n" * 5
    (part,) = await cut(rows, [3, 5], quoted=True)
    read = list(Records().read(part))
    assert read[0] == (3, {"type": "Email", "token": "a\nb"})
    assert [line for line, _ in read] == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("body", [b"x" * (MAX_BYTES + 1), b'"' + b"x\n" * (2 * MAX_BYTES)])
async def test_a_line_without_end_is_refused(body: bytes) -> None:
    with pytest.raises(ValidationFailed):
        await cut(body, [1000], quoted=True)


async def test_a_quote_that_never_ends_is_refused() -> None:
    with pytest.raises(ValidationFailed):
        await cut(b'type,token\nEmail,"a\n', [], quoted=True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949"])
async def test_korean_is_read_as_spreadsheets_write_it(encoding: str) -> None:
    (part,) = await cut("type,token,tags.등급\r\nEmail,a@example.com,금\r\n".encode(encoding), [])
    assert list(Records().read(part)) == [(2, {"type": "Email", "token": "a@example.com", "tags.등급": "금"})]


@pytest.mark.parametrize("encoding", ["utf-8", "cp949"])
async def test_an_encoding_that_shows_late_is_seen(encoding: str) -> None:
    text = "type,token,tags.a\n" + "Email,a@example.com,x\n" * MAX_LINES + "Email,b@example.com,금\n"
    records, found = Records(), await cut(text.encode(encoding), [], quoted=True)
    assert len(found) == 2
    read = [each for part in found for each in records.read(part)]
    assert read[-1] == (MAX_LINES + 2, {"type": "Email", "token": "b@example.com", "tags.a": "금"})


async def test_a_line_of_a_csv_counts_with_the_names_of_its_columns() -> None:
    header = b'type,token,"' + b"x" * 99_988 + b'"\n'
    found = await cut(header + b"a,b,c\n" * 100, [10_000, 10], quoted=True)
    assert [len(part.lines) for part in found] == [1 + MAX_NAMES // len(header)] * 2 + [101 - 2 * 42]


async def test_a_record_of_another_length_is_no_record() -> None:
    (part,) = await cut(b"type,token\nEmail\nEmail,a,b\nEmail,a\n\n", [])
    assert list(Records().read(part)) == [(2, None), (3, None), (4, {"type": "Email", "token": "a"})]


@pytest.mark.parametrize("header", [b"type\n", b"token,type,type\n", b"\n"])
async def test_a_header_needs_type_and_token_once(header: bytes) -> None:
    (part,) = await cut(header, [])
    with pytest.raises(ValidationFailed):
        list(Records().read(part))
