"""`python -m benchmarks [QUESTION ...] [--plot FILE.svg] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib import import_module
from pathlib import Path

from . import package

# Growth comes first: at 10,000 members the garbage collector looks at all that a process holds, and
# the others import three frameworks.
QUESTIONS = ("growth", "overhead", "http", "memory", "streaming", "parallel", "gateway")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "questions", nargs="*", metavar="QUESTION", help=f"{', '.join(QUESTIONS)} or instructions"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw the chart of overhead")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    options = parser.parse_args()
    for name in options.questions:
        if name not in (*QUESTIONS, "instructions"):
            parser.error(f"there is no question {name}")
    asked = options.questions or (["overhead"] if options.plot else QUESTIONS)
    if options.plot and "overhead" not in asked:
        parser.error("the chart is of overhead")
    print(
        f"Python {platform.python_version()}, {package.BUILD}, "
        f"{os.cpu_count()} processors with a load of {os.getloadavg()[0]:.1f}",
        end="\n\n",
    )
    answers = {}
    for name in asked:
        answers[name] = import_module(f"benchmarks.{name}").tables()
        for table in answers[name]:
            print(table.text(), end="\n\n", flush=True)
    if options.json:
        raw = {name: [table.json() for table in answer] for name, answer in answers.items()}
        options.json.write_text(json.dumps(raw, indent=1) + "\n")
    if options.plot:
        from . import chart

        chart.draw(answers["overhead"], options.plot)


if __name__ == "__main__":
    main()
