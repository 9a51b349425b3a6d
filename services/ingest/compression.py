"""Compressed bodies. Requests are inflated here and not by the HTTP server: it would work before anybody has shown a
key, and takes a gzip that was cut off for whole."""

import zlib
from collections.abc import Iterator
from functools import lru_cache

from libs.errors import InvalidRequest

WORTH_IT = 1024
"""Bytes from which an answer is compressed."""
PIECE = 64 * 1024
"""Bytes that are inflated at a time: a bomb costs no more before it is noticed."""
_SLICE = 16 * 1024
"""Bytes of input that zlib gets at a time: it copies what is left after each member of a gzip."""
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

ACCEPTED = "gzip, deflate, identity"


class Inflater:
    """One body's content coding (RFC 9110 §8.4.1)."""

    def __init__(self, coding: str) -> None:
        """Raises `KeyError` for a coding that is not in `ACCEPTED`."""
        self._coding = coding
        self._bits = _WINDOW_BITS[coding]
        self._stream = zlib.decompressobj(self._bits)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What `data` comes to, in pieces of at most `PIECE` bytes. Raises `InvalidRequest`."""
        for start in range(0, len(data), _SLICE):
            yield from self._inflate(data[start : start + _SLICE])

    def finish(self) -> None:
        """Raises `InvalidRequest` if the end is missing."""
        if not self._stream.eof:
            raise InvalidRequest(reason="the body did not arrive whole")

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        while True:
            if self._stream.eof:  # a gzip may have several members (RFC 1952 §2.2)
                self._stream = zlib.decompressobj(self._bits)
            try:
                piece = self._stream.decompress(data, PIECE)
            except zlib.error:
                raise InvalidRequest(reason=f"the body is not {self._coding}") from None
            if piece:
                yield piece
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            if not data:
                return


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether gzip is among what the client takes (RFC 9110 §12.5.3)."""
    weights: dict[str, float] = {}
    for part in accept_encoding[:500].lower().split(","):
        coding, _, parameter = part.partition(";")
        weights[coding.strip()] = _weight(parameter)
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 0.0
