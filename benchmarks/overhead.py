"""What does a member of a batch cost, beyond what the application costs anyway?

100 plain GETs as one batch, against the same 100 as direct calls, in one process, no sockets. The
overhead is shown as a multiple of the floor on a bare function, and as a percentage of a view
elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from batchwsgi import Limits

from . import apps, goals, naive, package, tight
from .apps import MEMBERS, App
from .table import Row, Table
from .timing import Turn, busy, spread

DIRECT = "a direct call"


def tables() -> list[Table]:
    """A table for each application."""
    copies = package.copies()
    flask = apps.flask_app()
    naive.add_original(flask)
    return [
        _table("a trivial application", apps.trivial(), copies, 1),
        _table("a Flask view", flask, copies, 100),
        _table("a Django view", apps.django_app(), copies, 100),
        _table("a Bottle view", apps.bottle_app(), copies, 100, to_single_file=None),
    ]


def variants(app: App, copies: dict[str, package.Copy]) -> dict[str, Callable[[], object]]:
    """The ways to have 100 items from `app`, by name; all but the first as one batch."""
    body = apps.document(apps.items())
    calls: dict[str, Callable[[], Any]] = {
        name: apps.batch(naive.Naive(app, send), body) for name, send in naive.WAYS.items()
    }
    if hasattr(app, "full_dispatch_request"):
        calls[naive.ORIGINAL] = apps.batch(app, body, "/app/batch")
    for name, wrap in tight.VARIANTS.items():
        calls[name] = apps.batch(wrap(app, Limits(max_requests=MEMBERS)), body)
    for name, copy in copies.items():
        wrapped = copy.BatchMiddleware(app, limits=copy.Limits(max_requests=MEMBERS))
        calls[name] = apps.batch(wrapped, body)
    for name, call in calls.items():
        got = [entry["body"] for entry in json.loads(call())["responses"]]
        if got != [apps.record(n) for n in range(MEMBERS)]:
            raise AssertionError(f"{name} does not answer what was asked")
    return {DIRECT: apps.direct(app), **calls}


def _table(
    title: str,
    app: App,
    copies: dict[str, package.Copy],
    scale: int,
    to_single_file: goals.Goal | None = goals.TO_SINGLE_FILE,
) -> Table:
    """`scale` is 1 for multiples and 100 for percentages."""
    taken = busy(variants(app, copies))
    unit = "%" if scale == 100 else "×"

    def overhead(name: str) -> Callable[[Turn], float]:
        return lambda turn: scale * (turn[name] / turn[DIRECT] - 1)

    own = spread(taken, lambda turn: turn[DIRECT] / MEMBERS * 1e6)
    rows = [Row(DIRECT, own, "µs")]
    for name in taken[0]:
        if name != DIRECT:
            rows.append(Row(name, spread(taken, overhead(name)), unit))
    rows[1:] = sorted(rows[1:], key=lambda row: -row.figure.median if row.figure else 0)
    for name, single in zip(copies, tight.VARIANTS, strict=True):
        ratio = spread(
            taken,
            lambda turn, name=name, single=single: overhead(name)(turn) / overhead(single)(turn),
        )
        rows.append(Row(f"{name}: to the single file", ratio, "×", to_single_file))
    if naive.ORIGINAL in taken[0]:
        for name in copies:
            less = spread(
                taken,
                lambda turn, name=name: overhead(naive.ORIGINAL)(turn) / overhead(name)(turn),
            )
            label = f"{name}: times less than the original"
            rows.append(Row(label, less, "×", goals.LESS_THAN_ORIGINAL))
    return Table(f"Overhead of a member on {title}", rows)
