"""How members are run: side by side in threads, or all or none in a transaction.

This module does not look at the members' requests. It imports modules and not their functions,
because gunicorn imports it (from its configuration file) before gevent patches them.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent import futures
from contextlib import AbstractContextManager, suppress
from contextvars import Context
from functools import partial
from typing import NamedTuple

from batchwsgi.errors import Unavailable
from batchwsgi.model import Member

log = logging.getLogger("batchwsgi")

Step = Callable[[Member], None]
Answer = Callable[[Member], int]
Transaction = Callable[[], AbstractContextManager[object]]


class _Ended(NamedTuple):
    """What came of a member in a job."""

    member: Member
    size: int
    error: BaseException | None


class _Job:
    """Something for a thread of the pool to do, unless it is too late for that.

    The pool's queue may hold a job long after its batch has ended. So a job gives up its function,
    and does not keep the batch in memory.
    """

    def __init__(self, function: Callable[[], None]) -> None:
        self.function: Callable[[], None] | None = function

    def __call__(self) -> None:
        function, self.function = self.function, None
        if function is not None:
            function()


class Pool:
    """The threads of one middleware: made at first use, and anew in a forked process.

    `concurrent.futures` looks up `threading` and `queue` when a pool is made, not before. Raises
    `ValueError` for less than one thread.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"threads: {threads!r} is less than 0")
        self.threads = threads
        self.quick_waves = 0
        """How many waves in a row were quick."""
        self._executors: dict[int, futures.ThreadPoolExecutor] = {}  # by process

    def submit(self, job: Callable[[], None]) -> futures.Future[None]:
        """Have `job` run in one of the threads, some time."""
        process = os.getpid()
        executor = self._executors.get(process)
        if executor is None:  # where two batches get here first, one executor stays unused
            made = futures.ThreadPoolExecutor(self.threads, "batchwsgi")
            executor = self._executors.setdefault(process, made)
        return executor.submit(job)


PATIENCE = 0.0005
"""Seconds that a member may take, on average, before others are started beside it."""
LONGEST_LOOK = 0.016
"""Seconds between two looks of the watch, at most; the first is after `PATIENCE`. Each look costs
a thread switch."""
QUICK_WAVES = 8
"""After this many quick waves in a row, the next ones are not watched."""


class SideBySide:
    """One wave whose members are answered in this thread and, if they take long, in a pool's.

    This thread works too, so that a pool that is busy with other batches cannot starve this one. It
    begins alone: members that compute and wait for nothing gain nothing from threads, as they take
    turns with the GIL. After each it looks at the clock. While it is inside a member, one job of
    the pool watches it, unless the waves before were all quick.

    Then jobs take members until none is left. At most `threads` members are under way, or done and
    not yet yielded: otherwise the answers would pile up while a slow client reads. While this
    thread is itself inside a member, jobs may go further, as long as the answers fit into what is
    left of the reply.

    `answer` answers a member, and returns how many bytes the response has. `room` tells how many
    the reply may still have.
    """

    def __init__(
        self, wave: list[Member], answer: Answer, pool: Pool, room: Callable[[], int]
    ) -> None:
        self._answer = answer
        self._pool = pool
        self._room = room
        self._count = len(wave)
        self._waiting = deque(wave)
        self._ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
        self._lock = threading.Lock()
        """Held while `_running`, `_working`, `_held`, `_largest` or `_jobs` is changed."""
        self._running = 0
        """Members that jobs are inside of."""
        self._working = 0
        """Jobs that take members, or will."""
        self._held = 0
        """Bytes that are done in jobs, and not yet yielded."""
        self._largest = 0
        """Bytes of the largest that was done in a job."""
        self._jobs: list[_Job] = []
        self._given = 0
        self._inside = False
        """Whether this thread is inside a member."""
        self._slow = False
        """Whether members, or the client reading them, are slow."""

    def members(self) -> Generator[Member]:
        """The members, each when it is answered.

        Lazy; once closed, it starts no more members and waits for those that run. What an answer
        raises is raised here, also if it was in a job and is found only when this is closed.
        """
        if self._pool.quick_waves < QUICK_WAVES:
            self._submit(partial(self._watch, 0, PATIENCE))
        started = time.monotonic()
        try:
            while self._given < self._count:
                member = self._next()
                self._given += 1
                if not self._slow:
                    self._slow = time.monotonic() - started > PATIENCE * self._given
                yield member
        except GeneratorExit:
            error = self._stop()
            if error is not None:
                raise error from None
            raise
        finally:
            self._stop()
        self._pool.quick_waves = 0 if self._slow else self._pool.quick_waves + 1

    def _next(self) -> Member:
        """The next member that is answered: by a job, or else here."""
        if self._ended.empty() and (member := self._popped()) is not None:
            self._inside = True
            self._start_jobs()
            self._answer(member)
            self._inside = False
            return member
        self._start_jobs()
        ended = self._ended.get()
        if ended.error is not None:
            raise ended.error
        with self._lock:
            self._held -= ended.size
        return ended.member

    def _popped(self) -> Member | None:
        """The next member that waits, for whoever is first; None if there is none."""
        try:
            return self._waiting.popleft()
        except IndexError:
            return None

    def _start_jobs(self) -> None:
        """Where members take long, have as many jobs as may take one."""
        if not self._slow or not self._waiting:
            return
        with self._lock:
            more = min(self._pool.threads - self._working, len(self._waiting))
            if not self._inside:
                more = min(more, self._pool.threads - self._ahead())
            more = max(more, 0)
            self._working += more
        for _ in range(more):
            self._submit(self._work)

    def _submit(self, function: Callable[[], None]) -> None:
        job = _Job(function)
        with self._lock:
            self._jobs = [job for job in self._jobs if job.function is not None]
            self._jobs.append(job)
        with suppress(RuntimeError):  # no more threads can be had: those that are there do the rest
            self._pool.submit(job)

    # --- In jobs

    def _watch(self, given: int, look: float) -> None:
        """See in `look` seconds whether this wave is slow; `given` were yielded so far."""
        time.sleep(look)
        if (self._given - given) * PATIENCE < look:
            self._slow = True
            self._start_jobs()
        elif self._waiting:
            # The next look waits in the queue behind other batches' jobs.
            self._submit(partial(self._watch, self._given, min(2 * look, LONGEST_LOOK)))

    def _work(self) -> None:
        """Take members and answer them."""
        while (member := self._taken()) is not None:
            size = 0
            error = None
            try:
                size = self._answer(member)
            except BaseException as raised:  # raised again in the batch's own thread
                error = raised
            with self._lock:
                if error is not None:
                    self._waiting.clear()  # it stops the worker: no other member is to start
                self._running -= 1
                self._held += size
                self._largest = max(self._largest, size)
                self._ended.put(_Ended(member, size, error))

    def _taken(self) -> Member | None:
        """A member for a job; None if the job is to end."""
        with self._lock:
            if self._may_start() and (member := self._popped()) is not None:
                self._running += 1
                return member
            self._working -= 1
            return None

    def _may_start(self) -> bool:
        if self._ahead() < self._pool.threads:
            return True
        likely = self._held + (self._running + 1) * self._largest
        return self._inside and likely <= self._room()

    def _ahead(self) -> int:
        """Members that jobs have started and that are not yet yielded."""
        return self._running + self._ended.qsize()

    # --- At the end

    def _stop(self) -> BaseException | None:
        """Start no more members, wait for those that run; gives what one of them raised."""
        with self._lock:
            self._waiting.clear()
            for job in self._jobs:
                job.function = None
        error = None
        while self._running or not self._ended.empty():
            ended = self._ended.get()
            error = error or ended.error
        return error


class Undo(Exception):
    """Raised inside a transaction to have it rolled back; no application sees it."""


def atomically(
    members: list[Member],
    finish: Step,
    transaction: Transaction,
    context: Context,
) -> str | None:
    """Finish `members` in this thread, in a transaction that is undone if one of them fails.

    Gives None if it was committed, or why it was undone. The transaction is entered and left in
    `context`. Raises `Unavailable` if it cannot be entered; then no member was sent.
    """
    try:
        manager = context.run(transaction)
        context.run(manager.__enter__)
    except Exception:
        log.exception("the transaction of a batch could not be entered")
        raise Unavailable("The transaction could not be entered.") from None
    try:
        for member in members:
            finish(member)
    except BaseException as error:
        try:
            context.run(manager.__exit__, type(error), error, error.__traceback__)
        except Exception:  # what stops the worker is not replaced by it
            log.exception("the transaction of a batch could not be ended")
        raise
    failed = next((member for member in members if member.failed), None)
    undo = Undo() if failed else None
    try:
        context.run(manager.__exit__, type(undo) if undo else None, undo, None)
    except Exception as error:
        if error is not undo:
            log.exception("the transaction of a batch could not be ended")
        if failed is None:
            return "The transaction could not be committed."
    return f"The request at index {failed.index} failed." if failed else None
