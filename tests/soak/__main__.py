"""`python -m tests.soak --minutes N`: does it hold for as long as one likes?

Four gunicorns serve the application of `app` at the same time: of each of the worker classes
gthread and gevent a *steady* one, whose only worker is left alone, and a *restless* one, whose two
workers are reloaded (SIGHUP to the master), terminated, killed, and recycled after some hundred
requests (`--max-requests`). Clients send them batches in all dialects, and single requests between
them: with members that fail in every way, references, dependencies, logins, uploads, groups that
are rolled back, batches that are refused. Some clients leave: with half of the body sent, before
the reply, or in the middle of it.

It needs Linux (/proc) and the `test` extra. Ctrl-C ends it early, with the report. It returns 1 if
anything is wrong. The report tells:

batches, members    what was sent, by dialect; refused ones are in it
outcomes            what became of the members: a status of the application's, or a problem
refused             batches that were refused whole; connections that gthread then closed,
                    because their body was not read
left                clients that went away, and when
workers             started, and how they were ended
connections         that broke under a batch, because a worker was ended
writes              told as executed and found once in the ledgers of the workers; told as not
                    executed or as undone and not found
in doubt            writes of which nothing was told, because the client left or its worker was
                    ended: some are in a ledger, once, and some are not
mixed up            answers with the token, user, session, trace, query or body of another request
wrong               other answers than the documentation has, for example a member that ran though
                    one that it depends on failed
lost                writes told as executed that are in no ledger
twice               writes that were executed twice
untold              writes that were executed though the client was told the contrary
halves              groups of which a part was executed
unexplained         connections that broke though no worker had ended that can have had them
unexpected          log records that no fault of the application explains
left open           at the end, in the steady workers: responses that were not closed,
                    transactions that were not ended, files; or the worker is another
start, middle, end  medians of what the workers that are left alone held in the thirds of the soak:
                    open files, threads, resident memory and the worker's share of it (PSS), in
                    MB. One GROWS if there is more at the end than in the middle, beyond two files,
                    one thread, or 3 % and 1 MB of memory. In the beginning everything grows, so
                    that files and threads are judged after a minute, memory after four
"""

from __future__ import annotations

import argparse
import random
import re
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from ..servers import client as one_request
from ..servers.harness import Server, start
from .clients import Broken, Client, Counts, Setting
from .faults import FAULTS
from .ledger import Claims, Verdict
from .workers import (
    AFTER,
    GRACE,
    LONG,
    Restarts,
    Sample,
    Watch,
    Worker,
    children,
    courses,
    is_explained,
    sampled,
)

START_UP = 60
"""Seconds in which a worker has to serve its first batch."""
PATIENCE = 6
"""Seconds in which a worker that nobody asks any more has to have closed everything."""
SHOWN = 5
"""How many of what is wrong are shown, of each kind."""

OPTIONS = f"--keep-alive=10 --graceful-timeout={GRACE} --worker-connections=200"
SERVERS = {
    "gthread steady": ("gunicorn_gthread", "--workers=1"),
    "gevent steady": ("gunicorn_gevent", "--workers=1"),
    "gthread restless": (
        "gunicorn_gthread",
        "--workers=2 --max-requests={} --max-requests-jitter={}",
    ),
    "gevent restless": (
        "gunicorn_gevent",
        "--workers=2 --max-requests={} --max-requests-jitter={}",
    ),
}


def main() -> int:
    options = parsed()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    print(
        f"seed {options.seed}, {options.connections} connections to each of {len(SERVERS)} servers"
    )
    with tempfile.TemporaryDirectory(prefix="batchwsgi-soak-") as folder:
        soak = Soak(Path(folder), options)
        threading.excepthook = soak.note_an_error
        soak.run(ended)
        return soak.report()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--minutes", type=float, default=20, help="how long (20)")
    add("--connections", type=int, default=3, help="clients of each of the four servers (3)")
    add("--pause", type=float, default=0.05, help="seconds between two batches of a client (0.05)")
    add("--restart", type=float, default=15, help="seconds between two restarts (15)")
    add("--requests", type=int, default=300, help="requests of a restless worker (300)")
    add("--seed", default=str(random.getrandbits(32)), help="the batches are those of another run")
    add("--fault", default="", help=f"break the application: {', '.join(FAULTS)}, with commas")
    return parser.parse_args()


@dataclass
class Soak:
    """One soak, from the start of the servers to the report."""

    folder: Path
    options: argparse.Namespace
    counts: Counts = field(default_factory=Counts)
    workers: list[Worker] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)
    left_open: list[str] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    minutes: float = 0

    def __post_init__(self) -> None:
        self.claims = Claims(self.folder / "claims")

    def run(self, ended: threading.Event) -> None:
        """Serve and send until the time is over or `ended` is set."""
        with ExitStack() as stack:
            servers = [stack.enter_context(self.served(name)) for name in SERVERS]
            steady = [server for server in servers if "steady" in server.name]
            restless = [server for server in servers if server not in steady]
            before = [at_rest(server) for server in steady]
            watch = Watch(servers, min(2, self.options.minutes * 60 / 30))
            every = min(self.options.restart, self.options.minutes * 60 / 4)
            restarts = Restarts(restless, watch, every, self.options.seed)
            self.workers, self.restarts = watch.workers, restarts.done
            began = time.monotonic()
            with running([watch]):
                with running([restarts]), running(self.clients(servers)):
                    ended.wait(self.options.minutes * 60)
                    self.minutes = (time.monotonic() - began) / 60
                until = time.monotonic() + AFTER
                while self.unexplained() and time.monotonic() < until:
                    time.sleep(0.1)  # a worker that has closed its connections still has to end
            with ThreadPoolExecutor() as pool:  # one after the other takes longer
                for found in pool.map(still_open, steady, before):
                    self.left_open += found
                list(pool.map(Server.stop, servers))

    @contextmanager
    def served(self, name: str) -> Iterator[Server]:
        """The server of that name; what it wrote is kept."""
        kind, options = SERVERS[name]
        options = f"{OPTIONS} {options}".format(self.options.requests, self.options.requests // 4)
        environment = {"SOAK_FOLDER": str(self.folder), "SOAK_FAULT": self.options.fault}
        app = "tests.soak.app:application"
        with start(kind, app, GUNICORN_CMD_ARGS=options, **environment) as server:
            server.name, server.patience = name, 3
            try:
                yield server
            finally:
                server.stop()
                self.logs.append(server.output())

    def clients(self, servers: Sequence[Server]) -> list[Client]:
        setting = Setting(self.counts, self.claims, self.options.seed, self.options.pause)
        numbers = range(self.options.connections)
        return [Client(number, server, setting) for server in servers for number in numbers]

    def note_an_error(self, raised: threading.ExceptHookArgs) -> None:
        """A thread of the soak itself has ended with an exception: it did not do its part."""
        text = "".join(traceback.format_exception(raised.exc_value))
        self.counts.wrong.append(f"{raised.thread}: {text}")

    # --- The report

    def report(self) -> int:
        """Print what was done and what is wrong; 1 if anything is."""
        counts = self.counts
        verdict = self.claims.compared(sorted(self.folder.glob("ledger-*")))
        minutes, batches, members = self.minutes, counts.batches.total(), counts.members.total()
        print(f"{minutes:.1f} minutes, {batches:,} batches, {members:,} members", end="")
        print(f", {members / minutes / 60:.0f} members a second")
        for dialect, number in counts.batches.most_common():
            print(f"  {dialect:20}{number:9,} batches{counts.members[dialect]:11,} members")
        print(f"outcomes: {listed(counts.outcomes)}")
        print(f"refused: {listed(counts.refused)}")
        print(f"left: {listed(counts.left)}")
        gone = sum(worker.gone is not None for worker in self.workers)
        ended = listed(Counter(self.restarts))
        recycled = sum(log.count("Autorestarting worker") for log in self.logs)
        print(f"workers: {len(self.workers)} started, {gone} ended; recycled {recycled}, {ended}")
        print(f"connections that broke: {len(counts.broken)}")
        print(
            f"writes: {verdict.done:,} executed once, {verdict.not_done:,} not executed or undone"
        )
        in_doubt = counts.left.total() + len(counts.broken)
        print(
            f"in doubt: {verdict.in_doubt:,} writes of {in_doubt:,} batches left or broken", end=""
        )
        print(f"; {verdict.done_in_doubt:,} of these writes were executed")
        return 1 if self.print_wrongs(verdict) + self.print_courses() else 0

    def unexplained(self) -> list[Broken]:
        """The connections that broke though no worker has ended that can have had them."""
        return [one for one in self.counts.broken if not is_explained(one, self.workers)]

    def print_wrongs(self, verdict: Verdict) -> int:
        """Print what is wrong, by kind; gives how much that is."""
        found = {
            "mixed up": self.counts.mixed_up,
            "wrong": self.counts.wrong,
            "lost": verdict.lost,
            "twice": verdict.twice,
            "untold": verdict.untold,
            "halves": verdict.halves,
            "unexplained": [str(one) for one in self.unexplained()],
            "unexpected": self.unexpected(),
            "left open": self.left_open,
        }
        print(", ".join(f"{kind} {len(cases)}" for kind, cases in found.items()))
        for kind, cases in found.items():
            for case in cases[:SHOWN]:
                print(f"  {kind}: {case}")
        return sum(map(len, found.values()))

    def unexpected(self) -> list[str]:
        """What the application or gunicorn has logged that it should not."""
        file = self.folder / "unexpected"
        records = file.read_text().split("\n\n") if file.exists() else []
        for log in self.logs:
            found = re.search("(.*\n){,3}.*(Traceback|WORKER TIMEOUT)(.*\n){,20}", log)
            records += [found[0]] if found else []
        return [record for record in records if record]

    def print_courses(self) -> int:
        """Print what the workers held that were left alone; gives how many things grew."""
        grown = 0
        print(f"{'':30}{'start':>9}{'middle':>9}{'end':>9}")
        for worker in self.workers:
            if "steady" not in worker.server or len(worker.samples) < 3:
                continue
            for course in courses(worker.samples):
                is_judged = self.minutes >= LONG[course.what]
                grown += is_judged and course.grows
                verdict = ("GROWS" if course.grows else "flat") if is_judged else "too short"
                figures = "".join(f"{figure:9.1f}" for figure in course[1:])
                print(f"{worker.server:15}{worker.pid:7}{course.what:>8}{figures}  {verdict}")
        for name in SERVERS:
            lives = [worker.samples for worker in self.workers if worker.server == name]
            most = [max(column) for column in zip(*chain(*lives), strict=True)]
            figures = ", ".join(
                f"{what} {n:.0f}" for what, n in zip(Sample._fields, most, strict=False)
            )
            print(f"{name}: {len(lives)} workers, the most that one held: {figures}")
        return grown


@contextmanager
def running(threads: Sequence[Any]) -> Iterator[None]:
    """Threads that run while the block does."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.end()
        for thread in threads:
            thread.join()


class Rest(NamedTuple):
    """A steady server's only worker while nobody asks it anything."""

    pid: int
    held: Sample


def at_rest(server: Server) -> Rest:
    """The worker once it has served its first batch, which has to wait until it has started."""
    deadline = time.monotonic() + START_UP
    while True:
        try:
            (pid,) = children(server.pid)
            one_request.batch(server, "/slow/a/9", "/slow/b/9")
            time.sleep(0.1)  # in which it closes the connection
            return Rest(pid, sampled(pid))
        except (OSError, ValueError):
            if time.monotonic() > deadline:
                raise


def still_open(server: Server, before: Rest) -> list[str]:
    """What the worker has not closed or ended, though nobody asks it any more."""
    deadline = time.monotonic() + PATIENCE
    while found := _open(server, before):
        if time.monotonic() > deadline:
            return [f"{server.name}: {what}" for what in found]
        time.sleep(0.1)
    return []


def _open(server: Server, before: Rest) -> list[str]:
    try:
        counted = one_request.ask(server, "GET", "/count").json()
        files = sampled(before.pid).files
    except OSError as error:
        return [f"the worker has ended, or does not answer: {error!r}"]
    found = []
    if counted["opened"] != counted["closed"]:
        found.append(f"{counted['opened']} responses, {counted['closed']} closed")
    if counted["begun"] != counted["ended"]:
        found.append(f"{counted['begun']} transactions, {counted['ended']} ended")
    if files > before.held.files:
        found.append(f"{files} files open, {before.held.files} before")
    return found


def listed(counter: Counter[Any]) -> str:
    return ", ".join(f"{key} {number:,}" for key, number in counter.most_common()) or "none"


if __name__ == "__main__":
    sys.exit(main())
