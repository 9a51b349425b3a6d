"""Ports of an embedded installation."""

import socket

import pytest

from services.cli import ports
from services.cli.failure import Failure


def test_a_remembered_port_is_taken_again() -> None:
    first = ports.choose(["api", "nats"], None, {})
    assert ports.choose(["api", "nats"], None, first) == first


def test_a_remembered_port_that_another_took_is_replaced() -> None:
    with socket.create_server((ports.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        chosen = ports.choose(["api", "nats"], None, {"api": port})
    assert port not in chosen.values()


def test_ports_are_all_different() -> None:
    names = [str(number) for number in range(50)]
    assert len(set(ports.choose(names, None, {}).values())) == 50


def test_a_base_numbers_the_ports_in_order() -> None:
    base = ports.choose(["probe"], None, {})["probe"]
    try:
        assert ports.choose(["api", "sandbox"], base, {"api": 1}) == {"api": base, "sandbox": base + 1}
    except Failure:
        pytest.skip("the neighbouring port is taken by another process")


def test_a_taken_port_after_the_base_is_named() -> None:
    with socket.create_server((ports.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Failure, match=str(port)) as caught:
            ports.choose(["api"], port, {})
    assert "--port-base" in caught.value.hint
