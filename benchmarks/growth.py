"""Does a member cost the same in a large batch as in a small one? What does a batch cost itself?

Batches of 1 to 10,000 plain GETs on the bare function. The fixed cost is what a batch of one
takes less the cost of one member, which is the slope between 1 and 100.
"""

from __future__ import annotations

from . import apps, goals, package
from .table import Row, Table
from .timing import Turn, busy, spread

SIZES = (1, 10, 100, 1_000, 10_000)


def tables() -> list[Table]:
    app = apps.trivial(max(SIZES))
    rows = []
    for name, copy in package.copies().items():
        limits = copy.Limits(max_requests=max(SIZES), max_body_size=10**8, max_reply_size=10**8)
        wrapped = copy.BatchMiddleware(app, limits=limits)
        calls = {str(size): apps.batch(wrapped, apps.document(apps.items(size))) for size in SIZES}
        taken = busy({"direct": apps.direct(app), **calls}, 15)

        def each(turn: Turn, size: int) -> float:
            return turn[str(size)] / size

        def fixed(turn: Turn) -> float:
            slope = (turn["100"] - turn["1"]) / 99
            return (turn["1"] - slope) / (turn["direct"] / apps.MEMBERS)

        rows.append(Row(f"{name}: cost for each member, to that at 100"))
        for size in SIZES:
            goal = goals.GROWTH if size == 10_000 else None
            figure = spread(taken, lambda turn, size=size: each(turn, size) / each(turn, 100))
            rows.append(Row(f"{size:,} member{'s' * (size > 1)}", figure, "×", goal))
        label = "fixed cost of a batch, in floor calls"
        rows.append(Row(label, spread(taken, fixed), "×", goals.FIXED_COST))
    return [Table("Growth with the number of members", rows)]
