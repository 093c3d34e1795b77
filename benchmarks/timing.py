"""How things are timed: variants take turns in random order, and ratios are made within a turn."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

Clock = Callable[[], float]
Turn = dict[str, float]
"""Seconds that each variant took, by name, all within a moment of each other."""


class Spread(NamedTuple):
    """One figure, measured many times."""

    samples: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def least(self) -> float:
        return min(self.samples)

    @property
    def most(self) -> float:
        return max(self.samples)


def turns(measures: Mapping[str, Callable[[], float]], number: int) -> list[Turn]:
    """Take all measures, each of which gives seconds, `number` times."""
    order = list(measures)
    taken = []
    for _ in range(number):
        random.shuffle(order)
        taken.append({name: measures[name]() for name in order})
    return taken


def timed(
    calls: Mapping[str, Callable[[], object]], number: int, clock: Clock = time.perf_counter
) -> list[Turn]:
    """Time all calls `number` times, after one that does not count."""
    for call in calls.values():
        call()
    return turns({name: partial(seconds, call, 1, clock) for name, call in calls.items()}, number)


def busy(
    calls: Mapping[str, Callable[[], object]], number: int = 50, sample: float = 0.004
) -> list[Turn]:
    """Processor time of all calls, `number` times; a short call is repeated for `sample` seconds.

    It is the processor's time, so that what else the machine does matters less. The garbage
    collector is on, as it is in a server.
    """
    measures = {}
    for name, call in calls.items():
        call()  # fills caches
        once = max(seconds(call, 1, time.process_time), 1e-6)
        repeat = max(1, round(sample / once))
        measures[name] = partial(seconds, call, repeat, time.process_time)
    return turns(measures, number)


def seconds(call: Callable[[], object], repeat: int, clock: Clock) -> float:
    """What one call takes, on average of so many."""
    started = clock()
    for _ in range(repeat):
        call()
    return (clock() - started) / repeat


def spread(taken: list[Turn], figure: Callable[[Turn], float]) -> Spread:
    """A figure made of the times of one turn, over all turns."""
    return Spread([figure(turn) for turn in taken])
