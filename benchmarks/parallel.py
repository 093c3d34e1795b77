"""What do threads save where members wait, and what do they cost where none does?

In one process, no sockets. 20 members that wait 20 ms and do nothing else, to one direct call, by
the clock on the wall. And 100 Flask views that do not wait, with threads and without: what handing
them over costs, as a percentage of the view; in processor time of all threads, and on the wall.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from . import apps, goals
from .table import Row, Table
from .timing import Spread, Turn, busy, spread, timed


def waiting(environ: apps.Environ, start_response: Callable[..., Any]) -> list[bytes]:
    """An application that waits 20 ms."""
    time.sleep(0.02)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b"{}"]


def tables() -> list[Table]:
    waits = timed(_variants(waiting, (0, 20), 20), 15)
    quick = _variants(apps.flask_app(), (0, 4, 20), apps.MEMBERS)
    processor, wall = busy(quick), timed(quick, 50)
    one = [Row("20 members that wait 20 ms, to one of them")]
    for n, goal in ((0, None), (20, goals.PARALLEL)):
        figure = spread(waits, lambda turn, n=n: 20 * turn[f"threads={n}"] / turn["direct"])
        one.append(Row(f"threads={n}", figure, "×", goal))
    hand_off = [Row("handing 100 members over that do not wait, of a Flask view")]
    for n in (4, 20):
        cost = _hand_off(processor, n)
        hand_off += [
            Row(f"threads={n}, processor", cost, "%", goals.HAND_OFF),
            Row(f"threads={n}, wall", _hand_off(wall, n), "%"),
        ]
    return [Table("Members side by side", one + hand_off)]


def _variants(
    app: apps.App, threads: tuple[int, ...], members: int
) -> dict[str, Callable[[], object]]:
    from batchwsgi import BatchMiddleware, Limits

    limits = Limits(max_requests=members)
    body = apps.document(apps.items(members))
    return {"direct": apps.direct(app, members)} | {
        f"threads={n}": apps.batch(BatchMiddleware(app, threads=n, limits=limits), body)
        for n in threads
    }


def _hand_off(taken: list[Turn], n: int) -> Spread:
    def percent(turn: Turn) -> float:
        return 100 * (turn[f"threads={n}"] - turn["threads=0"]) / turn["direct"]

    return spread(taken, percent)
