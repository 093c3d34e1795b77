"""When members are sent. Never what is in them, and never how.

An executor takes from the schedule the member that goes next, has it finished (sent, its entry
written, the schedule told), and yields it. It is lazy: nothing is sent before its member is asked
for, and closing the generator ends the batch there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic

from batchwsgi.model import Member, Problem
from batchwsgi.schedule import Schedule


def one_after_another(
    schedule: Schedule, finish: Callable[[Member], None], deadline: float
) -> Iterator[Member]:
    """Send the members in order, in this thread; none starts after `deadline` (monotonic clock)."""
    while True:
        if monotonic() >= deadline:
            schedule.end(Problem.DEADLINE, "The time for the batch was over (Limits.deadline).")
        member = schedule.next()
        if member is None:
            return
        finish(member)
        yield member
