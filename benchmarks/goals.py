"""The goals: what must hold in every release, and what is aimed at."""

from __future__ import annotations

from typing import NamedTuple

from .package import COMPILED


class Goal(NamedTuple):
    """A bound on a figure, in the unit of its row."""

    sense: str
    """`<=` or `>=`."""
    hold: float
    aim: float

    def verdict(self, reached: float) -> str:
        """`aim`, `hold`, or `MISSED`."""
        sign = 1 if self.sense == "<=" else -1
        if sign * reached <= sign * self.aim:
            return "aim"
        return "hold" if sign * reached <= sign * self.hold else "MISSED"


def at_most(hold: float, aim: float) -> Goal:
    return Goal("<=", hold, aim)


def at_least(hold: float, aim: float) -> Goal:
    return Goal(">=", hold, aim)


# Overhead of each of 100 members, in the pure build or the compiled one.
LESS_THAN_ORIGINAL = at_least(2.8, 5) if COMPILED else at_least(1.9, 3)  # times less
TO_SINGLE_FILE = at_most(0.95, 0.6) if COMPILED else at_most(1.45, 1)  # times `tight`

# Thousands of instructions for a plain GET, the bare function's own included.
INSTRUCTIONS = at_most(72, 50) if COMPILED else at_most(108, 80)

GROWTH = at_most(1.4, 1.1)  # cost for each member at 10,000 to that at 100
FIXED_COST = at_most(110, 60)  # floor calls

# 100 members through gunicorn: how much longer without a batch.
SEQUENTIAL = at_least(4, 5)
SIX_CONNECTIONS = at_least(3, 4)
SIX_AT_50_MS = at_least(8, 8.5)
WIRE = at_least(2.5, 3)  # times fewer bytes

PARALLEL = at_most(1.15, 1.05)  # 20 members that wait, to one of them
HAND_OFF = at_most(3, 2)  # percent of a Flask view

FIRST_BYTE = at_most(1.1, 1.1)  # to the first member alone
STREAMED = at_most(1.75, 1.3)  # to the same batch buffered


def streamed_memory(largest: float) -> Goal:
    """MB that a stream of replies may add to the process; `largest` is the largest of them."""
    return at_most(3 * largest + 8, 3 * largest + 4)


def buffered_memory(reply: float) -> Goal:
    """MB that a buffered batch may add to the process; `reply` is the size of the whole reply."""
    return at_most(2 * reply + 8, 1.2 * reply + 8)
