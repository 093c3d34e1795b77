"""Tables of figures beside their goals, as text and as JSON."""

from __future__ import annotations

from typing import NamedTuple

from .goals import Goal
from .timing import Spread


class Row(NamedTuple):
    """One figure, and what it should be; without a figure, a line of text."""

    label: str
    figure: Spread | None = None
    unit: str = "×"
    goal: Goal | None = None


class Table(NamedTuple):
    """The answer to one question."""

    title: str
    rows: list[Row]

    def text(self) -> str:
        """The table for people: reached, hold and aim side by side."""
        head = f"{'reached':>12}  {'min – max':>19}   {'hold':>8} {'aim':>8}"
        lines = [f"{self.title:<55}{head}", "-" * 110]
        return "\n".join(lines + [_line(row) for row in self.rows])

    def json(self) -> dict[str, object]:
        """Everything measured, every sample of it."""
        return {
            "title": self.title,
            "rows": [
                {
                    "label": row.label,
                    "unit": row.unit,
                    "median": row.figure.median,
                    "samples": row.figure.samples,
                    "goal": row.goal and row.goal._asdict(),
                }
                for row in self.rows
                if row.figure
            ],
        }


def _line(row: Row) -> str:
    if row.figure is None:
        return row.label
    median, least, most = row.figure.median, row.figure.least, row.figure.most
    line = f"  {row.label:<53}{number(median):>10} {row.unit:<2} "
    line += f"{number(least):>9} – {number(most):<9}" if least != most else " " * 21
    if row.goal is None:
        return line.rstrip()
    sense = {"<=": "≤", ">=": "≥"}[row.goal.sense]
    bounds = [f"{sense} {number(bound)}" for bound in (row.goal.hold, row.goal.aim)]
    return f"{line} {bounds[0]:>8} {bounds[1]:>8}   {row.goal.verdict(median)}"


def number(value: float) -> str:
    """Three digits that count."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
