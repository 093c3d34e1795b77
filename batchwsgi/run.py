"""One batch on its way: each member finished, within the limits.

Here meet what a member needs to be finished: the schedule, the outer request, the dialect, cookies,
the limits. How a request is sent or an entry is written is decided elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import closing
from operator import attrgetter
from time import monotonic, perf_counter

from batchwsgi import executors
from batchwsgi.cookies import Jar
from batchwsgi.dialects import Dialect
from batchwsgi.executors import Pool, Transaction
from batchwsgi.model import Batch, Member, Problem, Request, Response, Unresolved
from batchwsgi.options import Limits
from batchwsgi.schedule import Schedule
from batchwsgi.wsgi import Outer

access_log = logging.getLogger("batchwsgi.access")

_TIME_IS_OVER = "The time for the batch was over (Limits.deadline)."
_UNFIT = {
    Problem.TIMEOUT: "The reply went on when the time for the batch was over (Limits.deadline).",
    Problem.OFFLOADED: "The server was told to send a file, which is not part of a batch.",
    Problem.INCOMPLETE: "The reply is shorter than its Content-Length says.",
}
"""What is said in the place of an unfit response."""

KEPT_BODY = 16 * 1024
"""A body up to this size, in bytes, is kept until the batch ends."""


class Run:
    """One batch, from its first member to its last.

    `deadline` is on the monotonic clock; `pool` is there if members may run side by side;
    `transaction` is for groups.
    """

    def __init__(
        self,
        batch: Batch,
        outer: Outer,
        dialect: Dialect,
        *,
        limits: Limits,
        deadline: float,
        pool: Pool | None,
        transaction: Transaction | None,
    ) -> None:
        self.jar = Jar(outer.origin)
        self._batch = batch
        self._outer = outer
        self._dialect = dialect
        self._deadline = deadline
        self._pool = pool
        self._transaction = transaction
        self._schedule = Schedule(batch, side_by_side=pool is not None)
        self._reply_left = limits.max_reply_size
        self._entry_limit = min(limits.max_member_size, limits.max_reply_size)
        self._cookie_setters: list[Member] = []
        self._unwritten: list[Member] = []
        self._expansion = dialect.expansion
        self._overhead = dialect.overhead
        self._sources = dialect.expansion * batch.size
        self._burst = dialect.expansion * KEPT_BODY  # so that none with a larger body waits
        self._spare = 0  # bytes of entries that may wait from now on
        self._logs = access_log.isEnabledFor(logging.INFO)

    def members(self) -> Generator[Member]:
        """All members, each when it is answered; entries are there at the end.

        What is not asked for is not started, but for what threads have taken ahead. Raises
        `BatchError` at the first, if the batch cannot be run at all.
        """
        self._reckon()
        for wave in self._schedule.waves():
            first = wave[0]
            if first.group is not None:
                self._finish_group(wave)
                yield from wave
            elif self._pool is None or len(wave) == 1:
                self._finish(first)
                yield first
            else:
                together = executors.SideBySide(wave, self._answer, self._pool, self._reply_left)
                with closing(together.members()) as answered:
                    for member in answered:
                        self._note(member)
                        yield member
                self._keep_cookies()
        self._write_waiting()

    def lines(self) -> Generator[bytes]:
        """The parts of a streamed reply; what was handed over is let go."""
        self._burst = 0  # a line does not wait
        with closing(self.members()) as members:
            for member in members:
                line = self._dialect.line(member)
                member.entry = b""
                yield line

    def _finish(self, member: Member) -> None:
        """Answer `member` and deal with what came of it."""
        self._answer(member)
        self._note(member)
        if self._cookie_setters:
            self._keep_cookies()

    def _answer(self, member: Member) -> int:
        """Send `member`, if it is to be sent; the bytes of its response.

        Perhaps in a pool's thread.
        """
        if monotonic() >= self._deadline:
            self._schedule.end(Problem.DEADLINE, _TIME_IS_OVER)
        self._schedule.hold_back(member)
        if member.response is None and member.bind is not None:
            try:
                member.request = member.bind()
            except Unresolved as error:
                member.response = Problem.REFERENCE.response(str(error))
        response = member.response
        if response is None:
            response = self._logged(member) if self._logs else self._sent(member.request)
            if response.unfit is not None:
                response = self._replaced(response, response.unfit)
            member.response = response
        return response.header_size + len(response.body)

    def _sent(self, request: Request) -> Response:
        return self._outer.send(request, self._entry_limit, self.jar.header(request.target))

    def _replaced(self, response: Response, problem: Problem) -> Response:
        """What the endpoint answers in place of an unfit response.

        The application's cookies stay, as they would have reached the client. What to say of one
        that is too large is found out when its turn has come to be counted.
        """
        if problem is Problem.TOO_LARGE:
            return response
        if problem is Problem.TIMEOUT:
            self._schedule.end(Problem.DEADLINE, _TIME_IS_OVER)
        return problem.response(_UNFIT[problem], response.set_cookies)

    def _logged(self, member: Member) -> Response:
        """Send `member`, with a line in the access log."""
        started = perf_counter()
        response = self._sent(member.request)
        origin = self._outer.origin
        access_log.info(
            '%s "%s %s%s" %d %d %.3f ms, member %d of %d',
            origin.client,
            member.request.method,
            origin.mount,
            member.request.target,
            response.status,
            len(response.body),
            (perf_counter() - started) * 1000,
            member.index + 1,
            len(self._batch.members),
        )
        return response

    def _note(self, member: Member) -> None:
        """Write the entry of `member`, now or later; note whether it failed, and sets cookies.

        Written between two calls of the application, an entry takes twice as long as among others.
        So a small one waits where its length cannot matter: where neither it nor what waits before
        it can pass a limit, nor change how much the next member may answer.
        """
        response = member.response
        assert response is not None  # it was answered
        shown = response.header_size + len(response.body)
        longest = self._expansion * shown + self._overhead
        if longest < self._spare and response.problem is None and response.unfit is None:
            self._spare -= longest
            self._unwritten.append(member)
        else:
            self._write_waiting()
            response = self._write(member, response)
            self._reckon()
        if response.status >= 400:
            self._schedule.note_failure(member)
        if response.names.sets_cookies:
            self._cookie_setters.append(member)

    def _keep_cookies(self) -> None:
        """Keep the cookies that were set since the last call, in the order of the batch."""
        self.jar.keep(sorted(self._cookie_setters, key=attrgetter("index")))
        self._cookie_setters.clear()

    def _write_waiting(self) -> None:
        """Write the entries that wait, which are within the limits."""
        for member in self._unwritten:
            member.entry = entry = self._dialect.entry(member)
            self._reply_left -= len(entry)
        self._unwritten.clear()

    def _reckon(self) -> None:
        """See how many bytes of entries may wait from now on."""
        limit = self._entry_limit
        self._spare = min(self._burst, min(limit, self._reply_left - limit) - self._sources)

    def _write(self, member: Member, response: Response) -> Response:
        """Write the entry of `member`, count it, let a large body go; the response that counts."""
        member.entry = self._dialect.entry(member)
        size = len(member.entry)
        if response.problem is not None:
            pass  # what the endpoint writes itself does not count
        elif response.unfit is None and size < self._entry_limit:
            self._reply_left -= size
            self._entry_limit = min(self._entry_limit, self._reply_left)
        else:
            response = self._at_limit(member, response)
        if len(response.body) > KEPT_BODY and not member.referenced:
            response.body = b""
        return response

    def _at_limit(self, member: Member, response: Response) -> Response:
        """The response to `member`, whose entry is as long as it may be, or longer.

        The application's cookies stay, as they would have reached the client.
        """
        limit = self._entry_limit
        of_reply = limit == self._reply_left
        if response.unfit is None and len(member.entry) == limit:
            self._reply_left -= limit
        else:
            name = "max_reply_size" if of_reply else "max_member_size"
            member.response = response = Problem.TOO_LARGE.response(
                f"The entry is longer than {limit} bytes (Limits.{name}).",
                response.set_cookies,
            )
            member.entry = self._dialect.entry(member)
            if of_reply:
                self._reply_left = 0
        self._entry_limit = min(limit, self._reply_left)
        if not self._reply_left:
            detail = "The reply is as long as it may be (Limits.max_reply_size)."
            self._schedule.end(Problem.REPLY_LIMIT, detail)
        return response

    def _finish_group(self, members: list[Member]) -> None:
        """Finish all of a group, or have what it did undone; every entry then tells the truth."""
        assert self._transaction is not None  # or `rules` would have refused the batch
        before = self.jar.cookies()
        undone = executors.atomically(members, self._finish, self._transaction, self._outer.context)
        self._write_waiting()
        if undone is None:
            return
        self.jar.restore(before)
        for member in members:
            if not member.failed:
                member.response = Problem.ROLLED_BACK.response(undone)
                member.entry = self._dialect.entry(member)
