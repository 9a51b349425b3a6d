"""The form of an API key."""

import re
import string

from hypothesis import given
from hypothesis import strategies as st

from libs import bearer
from services.application import keys

ALPHABET = string.ascii_letters + string.digits
RANDOM = st.text(ALPHABET, min_size=bearer.RANDOM_CHARACTERS, max_size=bearer.RANDOM_CHARACTERS)


def test_a_key_has_prefix_random_part_and_checksum() -> None:
    key = keys.new_key()
    assert re.fullmatch(r"as_[0-9A-Za-z]{36}", key)
    assert bearer.checksum(key[3:33]) == key[33:]
    assert keys.hint_of(key) == key[3:7]


def test_no_two_keys_are_alike() -> None:
    assert len({keys.new_key() for _ in range(1000)}) == 1000


@given(RANDOM)
def test_a_checksum_has_its_length_and_its_alphabet_and_is_always_the_same(random: str) -> None:
    found = bearer.checksum(random)
    assert len(found) == bearer.CHECKSUM_CHARACTERS
    assert set(found) <= set(ALPHABET)
    assert bearer.checksum(random) == found


@given(RANDOM, st.integers(0, bearer.RANDOM_CHARACTERS - 1), st.sampled_from(ALPHABET))
def test_one_wrong_character_breaks_the_checksum(random: str, place: int, other: str) -> None:
    wrong = random[:place] + other + random[place + 1 :]
    assert (bearer.checksum(wrong) == bearer.checksum(random)) == (wrong == random)


@given(RANDOM, st.integers(0, bearer.RANDOM_CHARACTERS - 2))
def test_two_exchanged_characters_break_the_checksum(random: str, place: int) -> None:
    wrong = random[:place] + random[place + 1] + random[place] + random[place + 2 :]
    assert (bearer.checksum(wrong) == bearer.checksum(random)) == (wrong == random)
