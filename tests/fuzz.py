"""`python -m tests.fuzz --seconds N`: the laws of `tests.hostile.laws` for as long as one likes.

Guided by coverage where `atheris` is installed (it has wheels for Linux, and is no dependency),
else by Hypothesis alone, with another seed each time. Each law has its share of the seconds, in a
process of its own. Tells how many cases were tried and what was found, and returns 1 if anything.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

LAWS = [
    *["any_bytes", "near_misses", "entries_answer_requests", "faults_are_where_they_are"],
    "replies_cannot_forge",
]
"""Those of `tests.hostile.laws`, which is imported late: `atheris` instruments what it imports."""

LONGEST = 4096
"""Bytes of one case under atheris."""

_NOISE = ("#", "INFO: ", "WARNING: Failed")

TRIED = "tried"
"""The file in which a process tells how many cases it has tried."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="for all laws together (300)")
    parser.add_argument("--law", choices=LAWS, action="append", help="this one only; repeatable")
    parser.add_argument("--no-atheris", action="store_true", help="Hypothesis, even so")
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    guided = not options.no_atheris and importlib.util.find_spec("atheris") is not None
    if options.alone:
        law = _law(*options.law, guided)
        return (_with_atheris if guided else _with_hypothesis)(law, options.seconds, options.alone)
    laws = options.law or LAWS
    how = "atheris, guided by coverage" if guided else "Hypothesis"
    print(f"{len(laws)} laws, {options.seconds} s, {how}", flush=True)
    found = 0
    for law in laws:
        more = ["--no-atheris"] if options.no_atheris else []
        found += _in_a_process(law, max(1, options.seconds // len(laws)), more)
    print(f"found: {found}")
    return 1 if found else 0


def _in_a_process(law: str, seconds: int, more: list[str]) -> int:
    """Try one law; 1 if it does not hold, with what the process wrote."""
    with tempfile.TemporaryDirectory(prefix="batchwsgi-fuzz-") as folder:
        command = [sys.executable, "-m", "tests.fuzz", "--law", law, "--seconds", str(seconds)]
        started = time.monotonic()
        process = subprocess.run(
            [*command, "--alone", folder, *more],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[1],
        )
        taken = time.monotonic() - started
        output = process.stdout + process.stderr
        tried = (Path(folder) / TRIED).read_text() if (Path(folder) / TRIED).exists() else "no"
        covered = re.findall(r"cov: (\d+)", output)
        print(
            f"{law}: {tried} cases in {taken:.0f} s"
            + (f", {covered[-1]} branches seen" if covered else "")
            + (", DOES NOT HOLD" if process.returncode else ""),
            flush=True,
        )
        if process.returncode:
            print("\n".join(line for line in output.splitlines() if not line.startswith(_NOISE)))
    return 1 if process.returncode else 0


class _Tried:
    """A law that counts its cases, and shows the one that it does not hold for."""

    def __init__(self, law: Any, folder: Path) -> None:
        self._law = law
        self._file = folder / TRIED
        self._count = 0

    def __call__(self, case: tuple[Any, ...]) -> None:
        self._count += 1
        if self._count % 100 == 0:  # atheris ends the process before Python can
            self._file.write_text(str(self._count))
        try:
            self._law.holds(*case)
        except Exception:
            self._file.write_text(str(self._count))
            print(f"{self._law.holds.__name__}{case!r}", flush=True)
            raise


def _with_hypothesis(law: Any, seconds: int, folder: Path) -> int:
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis.strategies import tuples

    tried = _Tried(law, folder)

    def test(case: tuple[Any, ...]) -> None:
        tried(case)

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        some = settings(
            max_examples=1000,
            database=None,
            deadline=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        some(seed(random.getrandbits(64))(given(tuples(*law.cases))(test)))()
    return 0


def _with_atheris(law: Any, seconds: int, folder: Path) -> int:
    import atheris
    from hypothesis import given
    from hypothesis.strategies import tuples

    from .hostile.corpus import CASES

    tried = _Tried(law, folder)

    def test(case: tuple[Any, ...]) -> None:
        tried(case)

    seeds = folder / "seeds"
    seeds.mkdir()
    if law.takes_bytes:
        run: Callable[[bytes], object] = partial(_bytes, tried)
        for number, case in enumerate(CASES.values()):
            body = case.request.partition(b"\r\n\r\n")[2]
            if len(body) < LONGEST:
                (seeds / str(number)).write_bytes(body)
    else:
        run = given(tuples(*law.cases))(test).hypothesis.fuzz_one_input
    arguments = [f"-max_total_time={seconds}", f"-artifact_prefix={folder}/found-"]
    arguments += [f"-max_len={LONGEST}", "-timeout=10"]
    atheris.Setup([sys.argv[0], *arguments, str(seeds)], run)
    atheris.Fuzz()  # ends the process
    return 0


def _bytes(tried: _Tried, body: bytes) -> None:
    tried((body,))


def _law(name: str, guided: bool) -> Any:
    """The law of that name; what it tries is instrumented as it is imported."""
    if guided:
        import atheris

        with atheris.instrument_imports(include=["batchwsgi"]):
            import batchwsgi  # noqa: F401
    from .hostile.laws import LAWS

    logging.getLogger("batchwsgi").disabled = True
    return LAWS[name]


if __name__ == "__main__":
    sys.exit(main())
