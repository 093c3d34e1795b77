"""When members are sent; deadlines and order are tested with events, not with sleeps."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from concurrent import futures
from contextlib import contextmanager
from contextvars import ContextVar, copy_context

import pytest

from batchwsgi import Request, Response, executors
from batchwsgi.errors import Unavailable
from batchwsgi.executors import Pool, SideBySide, Undo, atomically
from batchwsgi.model import Member

WAIT = 10


def members(count, method="GET"):
    return [Member(index, Request(method, "/"), {}) for index in range(count)]


def side_by_side(wave, answer, pool, room=2**40):
    return SideBySide(wave, lambda member: answer(member) or 0, pool, lambda: room).members()


@pytest.fixture
def pool():
    made = Pool(3)
    yield made
    for executor in made._executors.values():
        executor.shutdown()


def test_side_by_side(pool):
    """All four run at the same time: three in the pool, one in the calling thread."""
    barrier = threading.Barrier(4)
    threads = set()

    def finish(member):
        barrier.wait(WAIT)
        threads.add(threading.current_thread())

    assert len(list(side_by_side(members(4), finish, pool))) == 4
    assert len(threads) == 4
    assert threading.current_thread() in threads


def test_given_when_done(pool):
    """A slow member does not hold up the others."""
    release = threading.Event()

    def finish(member):
        if member.index == 0:
            release.wait(WAIT)

    going = side_by_side(members(8), lambda member: None, pool)
    assert len(list(going)) == 8

    order = []
    started = threading.Event()

    def slow_in_the_pool(member):
        if threading.current_thread() is not threading.main_thread() and not started.is_set():
            started.set()
            release.wait(WAIT)
        elif threading.current_thread() is threading.main_thread():
            started.wait(WAIT)

    for member in side_by_side(members(6), slow_in_the_pool, pool):
        order.append(member.index)
        if len(order) == 5:
            release.set()
    assert len(order) == 6


def test_closing_starts_no_further_member(pool):
    sent, release, begun = [], threading.Event(), threading.Semaphore(0)

    def finish(member):
        sent.append(member.index)
        begun.release()
        if threading.current_thread() is not threading.main_thread():
            release.wait(WAIT)

    going = side_by_side(members(20), finish, pool)
    next(going)
    for _ in range(4):  # three in the pool, one here
        assert begun.acquire(timeout=WAIT)
    closer = threading.Thread(target=release.set)
    closer.start()
    going.close()  # waits for those that run
    closer.join()
    assert len(sent) == 4
    assert not begun.acquire(blocking=False)


def test_at_most_so_many_are_started_and_not_given(pool):
    """While a slow client takes nothing, the pool's threads do not run ahead."""
    sent, begun = [], threading.Semaphore(0)

    def finish(member):
        sent.append(member.index)
        begun.release()

    going = side_by_side(members(50), finish, pool)
    given = 0
    for _ in going:
        given += 1
        assert len(sent) - given <= pool.threads + 1
    assert given == 50


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ZeroDivisionError])
def test_what_a_member_raises_is_raised_in_the_batchs_thread(pool, error):
    begun = threading.Event()

    def finish(member):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            raise error
        begun.wait(WAIT)

    with pytest.raises(error):
        list(side_by_side(members(2), finish, pool))


def test_members_that_are_quick_are_not_handed_over(pool, monkeypatch):
    monkeypatch.setattr(executors, "PATIENCE", 0.2)
    threads = set()

    def finish(member):
        threads.add(threading.current_thread())

    assert len(list(side_by_side(members(50), finish, pool))) == 50
    assert threads == {threading.current_thread()}


def test_one_slow_member_among_quick_ones_is_noticed(pool, monkeypatch):
    monkeypatch.setattr(executors, "PATIENCE", 0.00001)
    others, here = threading.Event(), threading.current_thread()

    def finish(member):
        if threading.current_thread() is not here:
            others.set()
        elif member.index == 5:
            assert others.wait(WAIT)

    assert len(list(side_by_side(members(50), finish, pool))) == 50
    assert others.is_set()


@pytest.mark.parametrize("place", [0, 7, 79])
def test_a_slow_member_stops_no_other(pool, place):
    """Wherever it stands: all the others are done while it runs."""
    others = threading.Semaphore(0)

    def answer(member):
        if member.index == place:
            for _ in range(79):
                assert others.acquire(timeout=WAIT)
        else:
            time.sleep(0.001)
            others.release()

    assert len(list(side_by_side(members(80), answer, pool))) == 80


def test_what_is_done_while_a_slow_member_runs_is_bounded(pool):
    """Jobs stop once what waits fills the room; then this thread goes on alone with the rest."""
    sent, full = [], threading.Event()

    def answer(member):
        if member.index == 0:
            assert not full.wait(0.2)
            return 0
        sent.append(member.index)
        if len(sent) > 10 + pool.threads:
            full.set()
        return 100

    going = side_by_side(members(60), answer, pool, room=1000)
    assert next(going).index == 0
    assert 10 - pool.threads <= len(sent) <= 10
    assert len(list(going)) == 59


def test_while_a_client_reads_nothing_more_is_started(pool):
    """And when it has read, the others go on."""
    sent, slow = [], threading.Event()

    def answer(member):
        sent.append(member.index)
        slow.wait(0.01)

    going = side_by_side(members(40), answer, pool)
    for given in range(1, 41):
        next(going)
        time.sleep(0.02)  # the client reads
        assert len(sent) - given <= 2 * pool.threads
    assert list(going) == []


def test_members_do_not_run_ahead_of_a_slow_client(pool):
    sent = []

    def answer(member):
        sent.append(member.index)
        time.sleep(0.001)

    going = side_by_side(members(60), answer, pool)
    ahead = []
    for given in range(1, 61):
        next(going)
        time.sleep(0.01)  # the client reads
        ahead.append(len(sent) - given)
    assert max(ahead) <= 5 * pool.threads


def test_what_stops_a_worker_starts_no_other_member(pool):
    """Though this thread is inside a member, and jobs could go on."""
    sent, stopped = [], threading.Event()

    def answer(member):
        sent.append(member.index)
        if threading.current_thread() is threading.main_thread():
            stopped.wait(WAIT)
            time.sleep(0.05)
        elif len(sent) > 4:
            stopped.set()
            raise SystemExit
        time.sleep(0.001)

    with pytest.raises(SystemExit):
        list(side_by_side(members(80), answer, pool))
    assert len(sent) <= 4 + 1 + pool.threads


def test_closing_waits_for_a_job_that_has_only_just_begun(pool, monkeypatch):
    submit, inside, release = pool.submit, threading.Event(), threading.Event()

    def slowly(job):
        submit(job)
        inside.wait(0.2)  # the job is inside a member before the batch's own thread goes on

    def answer(member):
        if threading.current_thread() is threading.main_thread():
            assert inside.wait(WAIT)
        else:
            inside.set()
            release.wait(WAIT)
            raise SystemExit

    monkeypatch.setattr(pool, "submit", slowly)
    going = side_by_side(members(9), answer, pool)
    next(going)
    releaser = threading.Timer(0.05, release.set)
    releaser.start()
    with pytest.raises(SystemExit):
        going.close()
    releaser.join()


def test_a_batch_that_is_over_is_let_go(pool):
    """Though its jobs still wait in the queue of a pool that is busy."""
    release = threading.Event()
    for _ in range(pool.threads):
        pool.submit(lambda: release.wait(WAIT))

    class Answer:
        def __call__(self, member):
            time.sleep(0.001)
            return 0

    answer = Answer()
    let_go = weakref.ref(answer)
    wave = SideBySide(members(5), answer, pool, lambda: 100)
    assert len(list(wave.members())) == 5
    del wave, answer
    gc.collect()
    try:
        assert let_go() is None
    finally:
        release.set()


def test_after_quick_waves_nobody_watches(pool, monkeypatch):
    watched = []
    monkeypatch.setattr(pool, "submit", lambda job: watched.append(job) or futures.Future())
    monkeypatch.setattr(executors, "PATIENCE", 1)
    for _ in range(20):
        assert len(list(side_by_side(members(3), lambda member: None, pool))) == 3
    assert len(watched) == executors.QUICK_WAVES
    monkeypatch.setattr(executors, "PATIENCE", 0)
    assert len(list(side_by_side(members(3), lambda member: None, pool))) == 3
    assert pool.quick_waves == 0


def test_an_error_of_this_thread_is_not_replaced_by_one_of_a_job(pool):
    both = threading.Barrier(2)

    def answer(member):
        if member.index < 2:
            both.wait(WAIT)
            here = threading.current_thread() is threading.main_thread()
            raise SystemExit if here else ZeroDivisionError

    with pytest.raises(SystemExit):
        list(side_by_side(members(9), answer, pool))


def test_many_batches_on_a_small_pool(pool):
    """A pool that is full of other batches' members starves none."""
    counts = []

    def batch():
        counts.append(len(list(side_by_side(members(10), lambda member: None, pool))))

    threads = [threading.Thread(target=batch) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert counts == [10] * 32


def test_a_pool_that_does_nothing_starves_no_batch(pool):
    release, busy = threading.Event(), threading.Semaphore(0)

    def block():
        busy.release()
        release.wait(WAIT)

    for _ in range(3):
        pool.submit(block)
    for _ in range(3):
        assert busy.acquire(timeout=WAIT)
    try:
        assert [m.index for m in side_by_side(members(5), lambda member: None, pool)] == [
            0,
            1,
            2,
            3,
            4,
        ]
    finally:
        release.set()


def test_threads_that_cannot_be_had(pool, monkeypatch):
    """The calling thread does it all."""

    def submit(job):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(pool, "submit", submit)
    given = list(side_by_side(members(5), lambda member: None, pool))
    assert [member.index for member in given] == [0, 1, 2, 3, 4]


def test_a_job_that_comes_too_late():
    """It finds that the calling thread has taken its member."""
    pool, release = Pool(1), threading.Event()
    pool.submit(lambda: release.wait(WAIT))

    def finish(member):
        if member.index == 2:
            release.set()
            pool.submit(lambda: None).result(WAIT)  # by now the batch's own job has run

    assert [member.index for member in side_by_side(members(3), finish, pool)] == [0, 1, 2]
    pool._executors.popitem()[1].shutdown()


def test_the_pool_is_made_at_first_use_and_for_each_process(pool, monkeypatch):
    assert not pool._executors
    pool.submit(lambda: None).result(WAIT)
    pool.submit(lambda: None).result(WAIT)
    assert list(pool._executors) == [os.getpid()]
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    pool.submit(lambda: None).result(WAIT)
    assert list(pool._executors) == [process, -1]


# --- Transactions ------------------------------------------------------------------------------

SESSION: ContextVar[str] = ContextVar("SESSION", default="none")


class Recorder:
    """A transaction that tells what happened to it."""

    def __init__(self, leaving=lambda error: None):
        self.events = []
        self.leaving = leaving

    @contextmanager
    def __call__(self):
        self.events.append("begin")
        SESSION.set("the transaction's")
        try:
            yield
        except BaseException as error:
            self.events.append(type(error))
            answer = self.leaving(error)
            if answer is None:
                raise
            if isinstance(answer, BaseException):
                raise answer from None
        else:
            answer = self.leaving(None)
            if answer is not None:
                raise answer
            self.events.append("commit")


def answer(status):
    def finish(member):
        member.response = Response(status if member.index == 1 else 200, "", [], b"")

    return finish


def test_commit():
    transaction, context, seen = Recorder(), copy_context(), []

    def finish(member):
        seen.append(context.copy().run(SESSION.get))
        answer(200)(member)

    assert atomically(members(2), finish, transaction, context) is None
    assert transaction.events == ["begin", "commit"]
    assert seen == ["the transaction's"] * 2
    assert SESSION.get() == "none"


@pytest.mark.parametrize(
    "leaving",
    [
        lambda error: None,
        lambda error: "swallowed",
        lambda error: RuntimeError("replaced"),
    ],
    ids=["raises again", "swallows", "replaces"],
)
def test_a_failure_is_told_by_an_exception(leaving, caplog):
    transaction = Recorder(leaving)
    detail = atomically(members(3), answer(404), transaction, copy_context())
    assert detail == "The request at index 1 failed."
    assert transaction.events == ["begin", Undo]
    assert ("could not be ended" in caplog.text) == ("replaced" in caplog.text)


def test_a_manager_that_raises_what_it_was_told(caplog):
    class Manager:
        def __enter__(self):
            pass

        def __exit__(self, kind, error, traceback):
            raise error

    assert atomically(members(3), answer(404), Manager, copy_context())
    assert not caplog.records


def test_a_commit_that_raises(caplog):
    transaction = Recorder(lambda error: RuntimeError("constraint"))
    detail = atomically(members(2), answer(200), transaction, copy_context())
    assert detail == "The transaction could not be committed."
    assert "constraint" in caplog.text


@pytest.mark.parametrize("where", ["made", "entered"])
def test_a_transaction_that_cannot_be_entered(where, caplog):
    @contextmanager
    def entered():
        raise RuntimeError("no database")
        yield

    def made():
        raise RuntimeError("no database")

    sent = []
    with pytest.raises(Unavailable, match="could not be entered"):
        atomically(members(2), sent.append, entered if where == "entered" else made, copy_context())
    assert not sent
    assert "no database" in caplog.text


@pytest.mark.parametrize("answered", [None, "swallowed", RuntimeError("rollback failed")])
def test_what_stops_a_worker_leaves_the_transaction_and_goes_on(answered):
    transaction = Recorder(lambda error: answered)

    def finish(member):
        raise SystemExit

    with pytest.raises(SystemExit):
        atomically(members(2), finish, transaction, copy_context())
    assert transaction.events == ["begin", SystemExit]
