"""Who lives is known from what was heard, and silence counts only while we could have heard."""

import msgspec
import pytest

from libs import presence
from libs.clock import FakeClock
from libs.presence import DRAINING_SECONDS, LOST_SECONDS, Alive, Presence


class Connection:
    """Of a bus, as far as presence looks at it."""

    def __init__(self) -> None:
        self.client = self
        self.is_connected = True
        self.reconnects = 0


class Listener:
    """Hears the sender of `fra`, second by second."""

    def __init__(self) -> None:
        self.connection = Connection()
        self.clock = FakeClock()
        self.presence = Presence(self.connection, self.clock)  # type: ignore[arg-type]  # all that it looks at

    def pass_seconds(self, seconds: int, *words: Alive) -> None:
        for _ in range(seconds):
            self.clock.advance(1)
            self.presence.listening()
            for word in words:
                self.presence.hear(word)

    @property
    def silence(self) -> float:
        return self.presence.silence("apns", "fra")

    def is_served(self, steady: float = 0.0) -> bool:
        return self.presence.is_served("apns", "fra", steady)


FRA = Alive("apns", "fra", "a", 1)
LEAVING = msgspec.structs.replace(FRA, draining=True)


@pytest.fixture
def listener() -> Listener:
    return Listener()


def test_a_sender_that_speaks_is_there(listener: Listener) -> None:
    listener.pass_seconds(5, FRA)
    assert (listener.silence, listener.is_served()) == (0.0, True)


@pytest.mark.parametrize(("channel", "region"), [("fcm", "fra"), ("apns", "icn")])
def test_it_speaks_for_its_channel_and_region_alone(listener: Listener, channel: str, region: str) -> None:
    listener.pass_seconds(5, FRA)
    assert not listener.presence.is_served(channel, region)
    assert listener.presence.silence(channel, region) == 5.0


def test_silence_counts_from_its_last_word(listener: Listener) -> None:
    listener.pass_seconds(5, FRA)
    listener.pass_seconds(7)
    assert (listener.silence, listener.is_served()) == (7.0, False)


def test_silence_counts_from_the_beginning_of_listening_where_nobody_ever_spoke(listener: Listener) -> None:
    listener.pass_seconds(4)
    assert listener.silence == 4.0


def test_one_of_two_is_enough(listener: Listener) -> None:
    listener.pass_seconds(5, FRA, Alive("apns", "fra", "b", 1))
    listener.pass_seconds(10, FRA)
    assert (listener.silence, listener.is_served()) == (0.0, True)


def test_who_is_draining_takes_nothing_new_but_is_not_gone_before_it_is_silent(listener: Listener) -> None:
    listener.pass_seconds(5, FRA)
    listener.pass_seconds(12, LEAVING)
    assert (listener.silence, listener.is_served()) == (0.0, False)
    listener.pass_seconds(10)
    assert listener.silence == 10.0


def test_who_drains_for_ever_is_not_waited_for(listener: Listener) -> None:
    listener.pass_seconds(5, FRA)
    listener.pass_seconds(int(DRAINING_SECONDS) + 2, LEAVING)
    assert listener.silence > DRAINING_SECONDS


def test_a_region_is_steady_after_some_time_without_a_gap(listener: Listener) -> None:
    listener.pass_seconds(2, FRA)
    assert not listener.is_served(steady=3.0)
    listener.pass_seconds(2, FRA)
    assert listener.is_served(steady=3.0)
    listener.pass_seconds(int(LOST_SECONDS) + 1)
    listener.pass_seconds(1, FRA)
    assert not listener.is_served(steady=3.0)


def test_while_we_are_cut_off_the_others_are_not_silent(listener: Listener) -> None:
    listener.pass_seconds(5, FRA)
    listener.connection.is_connected = False
    listener.pass_seconds(60)
    assert listener.silence == 0.0
    listener.connection.is_connected, listener.connection.reconnects = True, 1
    listener.pass_seconds(3)
    assert listener.silence == 2.0, "from the moment on at which the connection was seen to be back"


def test_a_connection_that_was_lost_and_found_between_two_looks_was_lost(listener: Listener) -> None:
    listener.pass_seconds(60)
    listener.connection.reconnects += 1
    assert listener.silence == 0.0


def test_a_process_that_was_frozen_heard_nobody_meanwhile(listener: Listener) -> None:
    listener.pass_seconds(5, FRA)
    listener.clock.advance(60)
    assert listener.silence == 0.0


def test_what_is_remembered_is_bounded(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "_INSTANCES", 10)
    for number in range(50):
        listener.presence.hear(Alive("apns", "fra", str(number), 1))
    assert len(listener.presence._heard) == 10
    assert listener.is_served()
