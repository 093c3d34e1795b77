"""The soak, for a few seconds: it finds nothing, and finds what is wrong on purpose."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..servers.harness import ROOT
from .batches import DIALECTS
from .clients import Broken
from .workers import Course, Worker, is_explained

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="/proc tells what a process holds: Linux"
)

FAULTS = "mixed-up,lost,twice,handle,open"


@pytest.fixture(scope="module")
def reports() -> Iterator[dict[str, tuple[int, str]]]:
    """What two soaks at the same time returned and printed: one as it is, one with faults."""
    soaks = {fault: started("--fault", fault) for fault in ("", FAULTS)}
    try:
        printed = {fault: soak.communicate(timeout=180)[0] for fault, soak in soaks.items()}
        yield {fault: (soak.returncode, printed[fault]) for fault, soak in soaks.items()}
    finally:
        for soak in soaks.values():
            soak.terminate()  # it then stops its servers
            soak.wait()


def started(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.soak", "--minutes=0.05", "--connections=2", *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_nothing_is_wrong(reports: dict[str, tuple[int, str]]) -> None:
    status, report = reports[""]
    found = re.search("^mixed up .*$", report, re.MULTILINE)
    assert found is not None, report
    assert not re.search("[1-9]", found[0]), report
    assert status == 0, report
    for dialect in DIALECTS:
        assert re.search(rf"^  {dialect} +[1-9]", report, re.MULTILINE), report
    assert re.search("[1-9] executed once, [1-9]", report), report


@pytest.mark.parametrize("kind", ["mixed up", "lost", "twice", "left open"])
def test_faults_are_found(reports: dict[str, tuple[int, str]], kind: str) -> None:
    status, report = reports[FAULTS]
    assert re.search(f"{kind} [1-9]", report), report
    assert status == 1


def test_what_is_left_open_is_named(reports: dict[str, tuple[int, str]]) -> None:
    report = reports[FAULTS][1]
    for what in ("files open", "responses"):
        assert re.search(f"left open: gthread steady: [0-9]+ {what}", report), report


@pytest.mark.parametrize(
    ("course", "grows"),
    [
        (Course("RSS", 10, 40, 40.9), False),
        (Course("RSS", 40, 40, 41.3), True),
        (Course("RSS", 90, 100, 102), False),
        (Course("RSS", 90, 100, 104), True),
        (Course("files", 5, 12, 14), False),
        (Course("files", 12, 12, 15), True),
        (Course("threads", 1, 8, 9), False),
        (Course("threads", 8, 8, 10), True),
        (Course("threads", 8, 10, 8), False),
    ],
    ids=str,
)
def test_growth(course: Course, grows: bool) -> None:
    assert course.grows is grows


@pytest.mark.parametrize(
    ("worker", "seen", "explained"),
    [(7, 101, True), (7, 90, False), (7, 300, False), (8, 101, False), (None, 101, True)],
)
def test_a_connection_breaks_for_a_reason(worker: int, seen: float, explained: bool) -> None:
    """The end of the worker that had it; of any if it is not known which one that was."""
    ended = Worker("gevent", 7, 0, gone=100)
    broken = Broken("gevent", worker, seen - 1, seen, "")
    assert is_explained(broken, [ended, Worker("gevent", 8, 0)]) is explained
    assert not is_explained(broken._replace(server="gthread"), [ended])
