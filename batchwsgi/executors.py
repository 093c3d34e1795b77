"""Members answered side by side in threads, or all or none in a transaction. Never what is in them.

`side_by_side` is lazy: it is a generator, and closing it starts no further member.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent import futures
from contextlib import AbstractContextManager
from contextvars import Context

from batchwsgi.model import Member, Unavailable

log = logging.getLogger("batchwsgi")

Step = Callable[[Member], None]
Transaction = Callable[[], AbstractContextManager[object]]


class Pool:
    """The threads of one middleware: made at first use, and anew in a forked process.

    `concurrent.futures` looks up `threading` and `queue` when a pool is made, not before: gunicorn
    reads its configuration, and imports this, before gevent patches them.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._executors: dict[int, futures.ThreadPoolExecutor] = {}  # by process

    def submit(self, job: Callable[[], Member | None]) -> futures.Future[Member | None]:
        """Have `job` run in one of the threads, some time."""
        process = os.getpid()
        executor = self._executors.get(process)
        if executor is None:  # where two batches get here first, one executor stays unused
            made = futures.ThreadPoolExecutor(self.threads, "batchwsgi")
            executor = self._executors.setdefault(process, made)
        return executor.submit(job)


def side_by_side(wave: list[Member], answer: Step, pool: Pool) -> Generator[Member]:
    """Answer the members of one wave in the threads of `pool` and in this one.

    This thread works too, so that a pool that is busy with other batches cannot starve this one;
    and one job is one member, so that a slow client holds up none of the pool's threads. At most
    `pool.threads` + 1 members are started and not yet given.
    """
    waiting = deque(wave)

    def job() -> Member | None:
        try:
            member = waiting.popleft()
        except IndexError:
            return None
        answer(member)
        return member

    jobs: set[futures.Future[Member | None]] = set()
    without_job = len(wave)
    try:
        while waiting or jobs:
            while without_job > 1 and len(jobs) < pool.threads:
                try:
                    jobs.add(pool.submit(job))
                except RuntimeError:  # no more threads can be had: this one does the rest
                    without_job = 1
                without_job -= 1
            without_job -= 1  # for this thread; if there is none left, it takes one from the jobs
            if member := job():
                yield member
            else:  # all are started, by those jobs that cannot be cancelled
                jobs = {begun for begun in jobs if not begun.cancel()}
                futures.wait(jobs, return_when=futures.FIRST_COMPLETED)
            done = {ended for ended in jobs if ended.done()}
            jobs -= done
            for ended in done:
                if member := ended.result():  # raises what its member raised
                    yield member
    finally:
        waiting.clear()
        futures.wait([begun for begun in jobs if not begun.cancel()])


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
