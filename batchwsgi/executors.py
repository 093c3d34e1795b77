"""How members are run: side by side in threads, or all or none in a transaction.

What they ask for is not looked at. Modules are imported, not their functions: gunicorn reads its
configuration, and imports this, before gevent patches them.
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

from batchwsgi.model import Member, Unavailable

log = logging.getLogger("batchwsgi")

Step = Callable[[Member], None]
Transaction = Callable[[], AbstractContextManager[object]]


class Pool:
    """The threads of one middleware: made at first use, and anew in a forked process.

    `concurrent.futures` looks up `threading` and `queue` when a pool is made, not before.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
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
"""Seconds between two looks at how long members take, at most; the first is after `PATIENCE`."""


def side_by_side(wave: list[Member], answer: Step, pool: Pool) -> Generator[Member]:
    """Answer the members of one wave in this thread and, if they take long, in those of `pool`.

    This thread works too, so that a pool that is busy with other batches cannot starve this one. It
    begins alone, with one job that watches it: members that compute and wait for nothing gain
    nothing from threads, as they take turns with the GIL. The jobs have at most `pool.threads`
    members that are not yet given: a slow client holds up none of the pool's threads.

    Lazy; once closed, it starts no more members and waits for those that run.
    """
    waiting = deque(wave)
    ended: queue.SimpleQueue[tuple[Member, BaseException | None]] = queue.SimpleQueue()
    given = 0
    slow = False  # whether members take long, or the client that they are given to
    ahead = 0  # members that jobs have started and that are not yet given
    running = 0  # those of them that have not ended
    working = 0  # jobs that work, or will
    lock = threading.Lock()  # of the last three
    jobs: list[futures.Future[None]] = []

    before = 0  # how many were given when the watch looked last
    look = PATIENCE

    def submit(job: Callable[[], None]) -> None:
        jobs[:] = [job for job in jobs if not job.done()]
        with suppress(RuntimeError):  # no more threads can be had: those that are there do the rest
            jobs.append(pool.submit(job))

    def start() -> None:
        nonlocal working
        with lock:
            free = min(pool.threads - working, len(waiting))
            working += free
        for _ in range(free):
            submit(work)

    def watch() -> None:
        nonlocal slow, before, look
        time.sleep(look)
        if (given - before) * PATIENCE >= look:
            before = given
            look = min(2 * look, LONGEST_LOOK)  # each costs the batch a change of threads
            submit(watch)  # behind what other batches wait for
        else:
            slow = True
            start()

    def take() -> Member | None:
        nonlocal ahead, running, working
        with lock:
            if waiting and ahead < pool.threads:
                ahead += 1
                running += 1
                return waiting.popleft()
            working -= 1
            return None

    def work() -> None:
        nonlocal running
        while member := take():
            error = None
            try:
                answer(member)
            except BaseException as raised:  # raised again in the batch's own thread
                error = raised
            with lock:
                running -= 1
            ended.put((member, error))

    submit(watch)
    try:
        while given < len(wave):
            if slow and waiting:
                start()
            with lock:
                mine = waiting.popleft() if waiting and ended.empty() else None
            if mine is not None:
                member = mine
                answer(member)
            else:
                member, error = ended.get()
                with lock:
                    ahead -= 1
                if error is not None:
                    raise error
            given += 1
            yield member
    finally:
        with lock:
            waiting.clear()
            early = running > 0
        begun = [job for job in jobs if not job.cancel()]
        if early:
            futures.wait(begun)


class Undo(Exception):
    """Raised inside a transaction to have it rolled back; no application sees it."""


def atomically(
    members: list[Member],
    finish: Step,
    transaction: Transaction,
    context: Context,
) -> str | None:
    """Finish `members` in this thread, in a transaction that is undone if one of them fails.

    Gives None if it was committed, or why it was undone. It is entered and left in `context`.
    Raises `Unavailable` if it cannot be entered, with nothing sent.
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
