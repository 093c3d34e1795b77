"""Runs one batch: sends each member when its turn comes and deals with what came of it.

This is the order of events, and no more. Which member's turn it is, `schedule` says; how members
run side by side or all or none, `executors`; what an entry is and how many bytes there may be,
`entries`; which cookies a member sends, `cookies`; how a request is sent, the gateway (`wsgi`).
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from contextvars import Context
from operator import attrgetter
from time import monotonic
from typing import Protocol

from batchwsgi import executors
from batchwsgi.cookies import Jar
from batchwsgi.dialects.protocol import Writer
from batchwsgi.entries import Entries
from batchwsgi.errors import BatchError, Unavailable, Unresolved
from batchwsgi.executors import Pool, Transaction
from batchwsgi.model import Batch, Member, OnFail, OuterRequest, Problem, Request, Response
from batchwsgi.options import Limits
from batchwsgi.schedule import Schedule

access_log = logging.getLogger("batchwsgi.access")

_TIME_IS_OVER = "The time for the batch was over (Limits.deadline)."
_IS_FULL = "The reply is as long as it may be (Limits.max_reply_size)."
_UNFIT = {
    Problem.TIMEOUT: "The reply went on when the time for the batch was over (Limits.deadline).",
    Problem.OFFLOADED: "The server was told to send a file, which is not part of a batch.",
    Problem.INCOMPLETE: "The reply is shorter than its Content-Length says.",
}
"""What is said in the place of an unfit response."""


class Gateway(Protocol):
    """Sends requests to the application; `wsgi` has the real one."""

    @property
    def outer(self) -> OuterRequest:
        """The outer request."""
        ...

    @property
    def context(self) -> Context:
        """What each member runs in a copy of."""
        ...

    def send(self, request: Request, limit: int, cookie: str | None) -> Response:
        """The application's response; at most `limit` bytes of its body are read."""
        ...


class Run:
    """One batch, from its first member to its last.

    `deadline` is on the monotonic clock. `pool` is None unless members may run side by side.
    `transaction` is what a group of several members needs; without one such a batch is refused
    (`BatchError`). `timed_from` is None unless entries are to say when their members ran; it is on
    the monotonic clock.
    """

    def __init__(
        self,
        batch: Batch,
        gateway: Gateway,
        writer: Writer,
        *,
        limits: Limits,
        deadline: float,
        pool: Pool | None,
        transaction: Transaction | None,
        timed_from: float | None = None,
    ) -> None:
        if batch.needs_transaction and transaction is None:
            detail = "A group of several requests needs a transaction, and this endpoint has none."
            raise BatchError(detail)
        self.jar = Jar(gateway.outer, limits.max_header_size)
        self._batch = batch
        self._gateway = gateway
        self._deadline = deadline
        self._pool = pool
        self._transaction = transaction
        self._schedule = Schedule(batch, side_by_side=pool is not None)
        self._entries = Entries(writer, batch, limits)
        self._cookie_setters: list[Member] = []
        self._timed_from = timed_from
        self._logs = access_log.isEnabledFor(logging.INFO)
        self._watches = self._logs or timed_from is not None

    def whole(self) -> Sequence[Member]:
        """All members, answered, with their entries. Raises `BatchError` as `members` does."""
        for _ in self.members():
            pass
        return self._batch.members

    def members(self) -> Generator[Member]:
        """Yields each member once it has its response.

        Members are started only as they are asked for, except those that threads have already
        taken. Entries may be written later than this; all exist when this ends. Raises `BatchError`
        on the first `next()` if the batch cannot be run.
        """
        for wave in self._schedule.waves():
            if wave[0].group is not None:
                self._finish_group(wave)
                yield from wave
            elif self._pool is None or len(wave) == 1:
                self._finish(wave[0])
                yield wave[0]
            else:
                yield from self._side_by_side(wave, self._pool)
        self._entries.write()

    def _finish(self, member: Member) -> None:
        """Answer `member` and deal with what came of it."""
        self._answer(member)
        self._note(member)
        if self._cookie_setters:
            self._keep_cookies()

    def _side_by_side(self, wave: list[Member], pool: Pool) -> Generator[Member]:
        """Finish the members of a wave, in the order in which they are answered."""
        together = executors.SideBySide(wave, self._answer, pool, lambda: self._entries.left)
        with closing(together.members()) as answered:
            for member in answered:
                self._note(member)
                yield member
        self._keep_cookies()

    def _finish_group(self, members: list[Member]) -> None:
        """Finish all of a group, or have what it did undone; every entry then tells the truth."""
        self._end_where_time_is_over()
        hindered = self._schedule.hindered(members)
        if hindered is not None:  # it does not begin: this one says why
            self._finish_all([hindered, *(member for member in members if member is not hindered)])
        elif self._transaction is None:  # one request is all or none by itself
            self._finish_all(members)
        else:
            self._finish_in_transaction(members, self._transaction)
        self._end_where_full()

    def _finish_all(self, members: Sequence[Member]) -> None:
        for member in members:
            self._finish(member)

    def _finish_in_transaction(self, members: list[Member], transaction: Transaction) -> None:
        cookies = self.jar.cookies()
        mark = self._entries.mark()
        try:
            context = self._gateway.context
            undone = executors.atomically(members, self._finish, transaction, context)
        except Unavailable as error:
            if not self._has_executed():
                raise
            for member in members:
                member.response = Problem.UNAVAILABLE.response(str(error))
                self._note(member)
            return
        if undone is not None:
            self.jar.restore(cookies)
            self._entries.undo(mark, members, undone)
            self._schedule.note_failure(members[0])  # also where it was the commit that failed

    def _has_executed(self) -> bool:
        """Whether the application was called for any member."""
        answers = [member.response for member in self._batch.members]
        return any(
            answer is not None and (answer.problem is None or answer.problem.executed)
            for answer in answers
        )

    # --- One member, perhaps in a pool's thread

    def _answer(self, member: Member) -> int:
        """Give `member` its response: send it, if it is to be sent. Returns the response's size."""
        self._end_where_time_is_over()
        reason = self._schedule.reason_against(member)
        if reason is None:
            response = self._bound_and_sent(member)
        else:
            problem, detail = reason
            response = problem.response(detail)
        member.response = response
        return response.header_size + len(response.body)

    def _end_where_time_is_over(self) -> None:
        if monotonic() >= self._deadline:
            self._schedule.end(Problem.DEADLINE, _TIME_IS_OVER)

    def _bound_and_sent(self, member: Member) -> Response:
        """The response to `member`, its references filled in."""
        if member.bind is not None:
            try:
                member.request = member.bind()
            except Unresolved as error:
                return Problem.REFERENCE.response(str(error))
        request = member.request
        started = monotonic() if self._watches else 0.0
        cookie = self.jar.header(request.target)
        response = self._gateway.send(request, self._entries.limit, cookie)
        if self._watches:
            self._tell_time(member, response, started)
        if response.unfit is not None:
            response = self._replaced(response, response.unfit)
        if member.timing:
            response.add_field("Server-Timing", member.timing)
        return response

    def _tell_time(self, member: Member, response: Response, started: float) -> None:
        """Say in the access log, and note for the entry, when `member` ran and for how long."""
        duration = monotonic() - started
        if self._timed_from is not None:
            start = (started - self._timed_from) * 1000
            member.timing = f"batchwsgi;start={start:.2f};dur={duration * 1000:.2f}"
        if self._logs:
            self._log(member, response, duration)

    def _log(self, member: Member, response: Response, duration: float) -> None:
        """One record: a line for people, and the same as fields for what reads them."""
        outer = self._gateway.outer
        fields = {
            "client": outer.client,
            "method": member.request.method,
            "target": outer.mount + member.request.target,
            "status": response.status,
            "size": len(response.body),
            "duration": duration,
            "index": member.index,
            "count": len(self._batch.members),
        }
        access_log.info(
            '%s "%s %s" %d %d %.3f ms, member %d of %d',
            fields["client"],
            fields["method"],
            fields["target"],
            fields["status"],
            fields["size"],
            duration * 1000,
            member.index + 1,
            fields["count"],
            extra=fields,
        )

    def _replaced(self, response: Response, problem: Problem) -> Response:
        """What the endpoint answers in place of an unfit response; the application's cookies stay.

        One that is too large stays as it is: which limit it passed is known once it is counted.
        """
        if problem is Problem.TOO_LARGE:
            return response
        if problem is Problem.TIMEOUT:
            self._schedule.end(Problem.DEADLINE, _TIME_IS_OVER)
        return problem.response(_UNFIT[problem], response.set_cookies)

    # --- What came of it, in the batch's own thread

    def _note(self, member: Member) -> None:
        """Have the entry of `member` written, and note whether it failed and sets cookies."""
        self._entries.add(member)
        if not self._entries.limit:
            if member.group is None or self._batch.on_fail is OnFail.ROLLBACK:
                self._end_where_full()
            elif not member.failed:  # if the group is undone, there is room again
                self._schedule.end_group(member.group, Problem.REPLY_LIMIT, _IS_FULL)
        response = member.response
        assert response is not None
        if response.status >= 400:
            self._schedule.note_failure(member)
        if response.names.sets_cookies:
            self._cookie_setters.append(member)

    def _end_where_full(self) -> None:
        if not self._entries.limit:
            self._schedule.end(Problem.REPLY_LIMIT, _IS_FULL)

    def _keep_cookies(self) -> None:
        """Keep the cookies that were set since the last call, in the order of the batch."""
        self.jar.keep(sorted(self._cookie_setters, key=attrgetter("index")))
        self._cookie_setters.clear()
