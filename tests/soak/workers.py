"""The workers of the servers: what each holds while it lives, and how they are restarted."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

from ..servers.harness import Server
from .clients import Broken

LOOK = 0.2
"""Seconds between two looks at which workers there are."""
GRACE = 5
"""Seconds that a worker has for the batches under way when it is to end (`--graceful-timeout`)."""
AFTER = GRACE + 3
"""Seconds after which a worker that has closed its connections has ended, and was seen to."""

LONG = {"files": 1.0, "threads": 1.0, "RSS": 4.0, "PSS": 4.0}
"""Minutes that a worker has to live before it is judged: at first everything grows."""
ALLOWED = {"RSS": 0.03, "PSS": 0.03}
"""By how much of itself the memory may be larger in the last third than in the second."""
LEAST = {"files": 2.0, "threads": 1.0, "RSS": 1.0, "PSS": 1.0}
"""By how much anything may, in MB where it is memory: what is open at a moment varies."""


class Sample(NamedTuple):
    """What a worker holds at one time."""

    files: int
    threads: int
    RSS: float
    """Resident memory, in MB."""
    PSS: float
    """The same, with what is shared divided among those who share it."""


def sampled(pid: int) -> Sample:
    """What a process holds now. Raises `OSError` where it has ended."""
    process = Path(f"/proc/{pid}")
    sizes = {"Rss": 0, "Pss": 0}
    for line in (process / "smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in sizes:
            sizes[name] = int(rest.split()[0])  # kB
    files, threads = (len(os.listdir(process / folder)) for folder in ("fd", "task"))
    return Sample(files, threads, sizes["Rss"] / 1024, sizes["Pss"] / 1024)


@dataclass
class Worker:
    """The life of one process, as it was watched."""

    server: str
    pid: int
    seen: float
    """When it was first seen, on the clock of `time.time`."""
    gone: float | None = None
    """When it was first seen no more; None while it lives."""
    samples: list[Sample] = field(default_factory=list)


class Watch(threading.Thread):
    """Looks again and again which workers there are and what they hold."""

    def __init__(self, servers: Iterable[Server], every: float) -> None:
        super().__init__(name="watch")
        self._living: dict[str, dict[int, Worker]] = {server.name: {} for server in servers}
        self._servers = list(servers)
        self._every = every
        self._ended = threading.Event()
        self.workers: list[Worker] = []
        """All that there were, in the order in which they were seen."""

    def living(self, server: Server) -> list[Worker]:
        """The workers of a server that live, as far as was seen."""
        return [*self._living[server.name].values()]

    def end(self) -> None:
        self._ended.set()

    def run(self) -> None:
        due = time.monotonic()
        while not self._ended.wait(LOOK):
            for server in self._servers:
                self._look(server)
            if time.monotonic() >= due:
                due += self._every
                self._sample()

    def _look(self, server: Server) -> None:
        now = time.time()
        pids = children(server.pid)
        living = self._living[server.name]
        for pid in living.keys() - pids:
            living.pop(pid).gone = now
        for pid in pids - living.keys():
            living[pid] = Worker(server.name, pid, now)
            self.workers.append(living[pid])

    def _sample(self) -> None:
        for server in self._servers:
            for worker in self.living(server):
                with suppress(OSError):  # it has just ended
                    worker.samples.append(sampled(worker.pid))


def children(pid: int) -> set[int]:
    """The processes that this one has started."""
    with suppress(OSError):
        return {int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return set()


class Restarts(threading.Thread):
    """Restarts the workers of some servers by turns: all, one gently, one at once."""

    def __init__(self, servers: Sequence[Server], watch: Watch, every: float, seed: str) -> None:
        super().__init__(name="restarts")
        self._servers = servers
        self._watch = watch
        self._every = every
        self._rng = random.Random(seed)
        self._ended = threading.Event()
        self.done: list[str] = []
        """What was done: "reloaded", "terminated", "killed"."""

    def end(self) -> None:
        self._ended.set()

    def run(self) -> None:
        ways: list[tuple[str, Callable[[Server], None]]] = [
            ("killed", lambda server: self._end_one(server, signal.SIGKILL)),
            ("terminated", lambda server: self._end_one(server, signal.SIGTERM)),
            ("reloaded", lambda server: os.kill(server.pid, signal.SIGHUP)),
        ]
        turn = 0
        while not self._ended.wait(self._every):
            name, restart = ways[turn % len(ways)]
            for server in self._servers:
                restart(server)
                self.done.append(name)
            turn += 1

    def _end_one(self, server: Server, how: signal.Signals) -> None:
        """End a child of the server that the master has not reaped: its id is not another's."""
        if workers := self._watch.living(server):
            pid = self._rng.choice(workers).pid
            if pid in children(server.pid):
                os.kill(pid, how)


# --- What to think of it ----------------------------------------------------------------------


def is_explained(broken: Broken, workers: Iterable[Worker]) -> bool:
    """Whether a worker has ended that can have had the connection.

    One that is to end closes its connections and may then go on for `AFTER` seconds.
    """
    for worker in workers:
        if worker.server == broken.server and worker.gone is not None:
            is_it = broken.worker == worker.pid if broken.worker else worker.seen <= broken.seen
            if is_it and broken.sent - 1 <= worker.gone <= broken.seen + AFTER:
                return True
    return False


class Course(NamedTuple):
    """The medians of one thing in the three thirds of a worker's life."""

    what: str
    start: float
    middle: float
    end: float

    @property
    def grows(self) -> bool:
        """Whether there is more at the end than in the middle, beyond what always varies.

        The first third does not count: caches and pools fill.
        """
        room = max(LEAST[self.what], ALLOWED.get(self.what, 0) * self.middle)
        return self.end - self.middle > room


def courses(samples: Sequence[Sample]) -> list[Course]:
    """The course of each thing that is measured, of three samples or more."""
    third = len(samples) // 3
    thirds = samples[:third], samples[third : 2 * third], samples[2 * third :]
    return [
        Course(what, *(median(getattr(sample, what) for sample in part) for part in thirds))
        for what in Sample._fields
    ]
