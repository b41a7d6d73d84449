"""One client may take half of a worker's time while others are turned away, and all of it else."""

import pytest

from mien.web.errors import Busy
from mien.web.shares import CROWDED_S, WINDOW_S, Shares

HEAVY, LIGHT = "203.0.113.7", "198.51.100.1"


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shares(clock: Clock) -> Shares:
    """HEAVY has worked the worker for a whole window."""
    shares = Shares(1, clock=clock)
    shares.spent(HEAVY, WINDOW_S)
    return shares


def is_let_in(shares: Shares, client: str | None) -> bool:
    try:
        shares.check(client)
    except Busy:
        return False
    return True


def test_alone_a_client_takes_all(shares: Shares) -> None:
    assert is_let_in(shares, HEAVY)
    shares.turned_away(HEAVY)  # behind itself
    assert is_let_in(shares, HEAVY)


def test_who_had_much_waits_while_others_get_nothing(shares: Shares, clock: Clock) -> None:
    shares.turned_away(LIGHT)
    assert [is_let_in(shares, one) for one in (HEAVY, LIGHT, None)] == [False, True, True]
    clock.now_s += CROWDED_S
    assert is_let_in(shares, HEAVY)


def test_time_is_forgotten(shares: Shares, clock: Clock) -> None:
    """After ln 2 of a window, half of it is left: no more than the share."""
    clock.now_s += 0.7 * WINDOW_S
    shares.turned_away(LIGHT)
    assert is_let_in(shares, HEAVY)


def test_a_crowd_of_heavy_clients_turns_nobody_else_away(shares: Shares) -> None:
    shares.spent(LIGHT, WINDOW_S)
    shares.turned_away(HEAVY)
    assert is_let_in(shares, LIGHT)


def test_loopback_has_no_share(shares: Shares) -> None:
    shares.spent(None, 10 * WINDOW_S)
    shares.turned_away(LIGHT)
    shares.check(None)


def test_more_at_a_time_are_a_larger_share(clock: Clock) -> None:
    shares = Shares(2, clock=clock)
    shares.spent(HEAVY, 0.9 * WINDOW_S)
    shares.turned_away(LIGHT)
    shares.check(HEAVY)


def test_clients_that_are_gone_are_forgotten(shares: Shares, clock: Clock) -> None:
    clock.now_s += 20 * WINDOW_S
    shares.spent(LIGHT, 1.0)
    assert list(shares._spent) == [LIGHT]
