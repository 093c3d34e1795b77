"""The chart of overhead that the README shows (needs matplotlib)."""

from __future__ import annotations

from pathlib import Path

from . import naive
from .overhead import DIRECT
from .table import Table, number

OURS, THEIRS, WORDS = "#1f6fb4", "#b8bec6", "#3a3f45"
WAYS = {
    "werkzeug.test.Client": "werkzeug.test.Client",
    "EnvironBuilder + run_wsgi_app": "EnvironBuilder\n+ run_wsgi_app",
    naive.ORIGINAL: "a Flask view with\nfull_dispatch_request()",
    "copied environ, JSON decoded and encoded": "copied environ,\nno checks at all",
    "batchwsgi": "batchwsgi",
    "batchwsgi with msgspec": "batchwsgi\nwith msgspec",
}


def draw(tables: list[Table], path: Path) -> None:
    """Draw the overhead on the bare function and on the Flask view, side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"font.size": 10, "svg.hashsalt": "batchwsgi", "text.color": WORDS}
    medians = [
        {row.label: row.figure.median for row in table.rows if row.figure} for table in tables[:2]
    ]
    names = [name for name in WAYS if any(name in of for of in medians)][::-1]
    figure, panels = plt.subplots(
        1, 2, figsize=(9.2, 0.55 * len(names) + 1.5), sharey=True, layout="constrained"
    )
    figure.suptitle("What a member of a batch of 100 costs, beyond a direct call", fontsize=12)
    units = (
        ("×", "trivial application: times the direct call itself"),
        (" %", "Flask JSON view: percent of the view"),
    )
    for panel, of, (unit, label) in zip(panels, medians, units, strict=True):
        for place, name in enumerate(names):
            colour = OURS if name.startswith("batchwsgi") else THEIRS
            panel.barh(place, of.get(name, 0), color=colour, height=0.62)
            words = f" {of[name]:.0f}{unit}" if name in of else " (Flask only)"
            panel.text(of.get(name, 0), place, words, va="center")
        panel.set_xlabel(label, color=WORDS)
        panel.set_yticks(range(len(names)), [WAYS[name] for name in names], color=WORDS)
        panel.tick_params(length=0, colors=WORDS)
        panel.margins(x=0.16)
        panel.set_xlim(left=0)
        for side in ("top", "right", "left"):
            panel.spines[side].set_visible(False)
    own = [number(of[DIRECT]) for of in medians]
    figure.supxlabel(
        f"Medians; the direct calls take {own[0]} and {own[1]} µs. 200-byte JSON replies.",
        fontsize=8.5,
    )
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
