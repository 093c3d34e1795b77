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

KEPT_BODY = 16 * 1024
"""A body up to this size, in bytes, is kept until the batch ends."""

# An entry has at most so many bytes for each one of what it is made of (a control character is
# "\\u0000" in JSON), and beside that.
_LONGEST = 6
_ROOM = 256
_BURST = 256 * 1024
"""Bytes that the entries that wait to be written may have, at most."""


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
        self._member_limit = limits.max_member_size
        self._entry_limit = min(limits.max_member_size, limits.max_reply_size)
        self._unwritten: list[Member] = []
        self._setting: list[Member] = []
        self._burst = _BURST
        self._spare = 0
        self._sources = _LONGEST * batch.size
        self._logs = access_log.isEnabledFor(logging.INFO)

    def members(self) -> Generator[Member]:
        """All members, each when it is answered. Lazy: what is not asked for is not started.

        At the end all have their entries. Raises `BatchError` at the first, if the batch cannot be
        run at all.
        """
        self._write_waiting()  # of which there are none yet
        for wave in self._schedule.waves():
            first = wave[0]
            if first.group is not None:
                self._answer_group(wave)
                yield from wave
            elif self._pool is None or len(wave) == 1:
                self._answer(first)
                self._note(first)
                if self._setting:
                    self._settle()
                yield first
            else:
                for member in executors.side_by_side(wave, self._answer, self._pool):
                    self._note(member)
                    yield member
                self._settle()
        self._write_waiting()

    def lines(self) -> Generator[bytes]:
        """The parts of a streamed reply; what was handed over is let go."""
        self._burst = 0
        with closing(self.members()) as members:
            for member in members:
                line = self._dialect.line(member)
                member.entry = b""
                yield line

    def _answer(self, member: Member) -> None:
        """Send `member`, if it is to be sent. Perhaps in a pool's thread."""
        if monotonic() >= self._deadline:
            self._schedule.end(
                Problem.DEADLINE, "The time for the batch was over (Limits.deadline)."
            )
        self._schedule.start(member)
        if member.response is None and member.bind is not None:
            try:
                member.request = member.bind()
            except Unresolved as error:
                member.response = Problem.REFERENCE.response(str(error))
        if member.response is None:
            member.response = self._logged(member) if self._logs else self._sent(member.request)

    def _sent(self, request: Request) -> Response:
        return self._outer.send(request, self._entry_limit, self.jar.header(request.target))

    def _logged(self, member: Member) -> Response:
        """The response to `member`, with a line in the access log if it was sent."""
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
        """Have the entry of `member` written, now or later, and tell the schedule if it failed.

        Written between two calls of the application, an entry takes twice as long as among others.
        So a small one waits where its length cannot matter: where neither it nor what waits before
        it can pass a limit, nor change how much the next member may answer.
        """
        response = member.response
        assert response is not None  # it was answered
        size = len(response.body)
        longest = _LONGEST * (response.header_size + size) + _ROOM
        if longest < self._spare and size < KEPT_BODY and response.problem is None:
            self._spare -= longest
            self._unwritten.append(member)
        else:
            self._write_waiting()
            response = self._write(member, response)
        if response.status >= 400:
            self._schedule.failed(member)
        if response.names.sets_cookies:
            self._setting.append(member)

    def _settle(self) -> None:
        """Keep the cookies of the members that a wave had, in order: the next wave has them."""
        for member in sorted(self._setting, key=attrgetter("index")):
            self.jar.keep(member)
        self._setting.clear()

    def _write_waiting(self) -> None:
        """Write the entries that wait, and see how much may wait from now on."""
        written = 0
        for member in self._unwritten:
            member.entry = entry = self._dialect.entry(member)
            written += len(entry)
        self._unwritten.clear()
        self._reply_left -= written
        limit = self._member_limit
        self._spare = min(self._burst, min(limit, self._reply_left - limit) - self._sources)

    def _write(self, member: Member, response: Response) -> Response:
        """Write the entry of `member` and count it against the limits; the response that counts."""
        member.entry = self._dialect.entry(member)
        size = len(member.entry)
        if response.problem is None and size < self._entry_limit:
            self._reply_left -= size
            self._entry_limit = min(self._entry_limit, self._reply_left)
        elif response.problem is None or response.problem is Problem.TOO_LARGE:
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
        if response.problem is None and len(member.entry) == limit:
            self._reply_left -= limit
        else:
            name = "max_reply_size" if of_reply else "max_member_size"
            member.response = response = Problem.TOO_LARGE.response(
                f"The entry is longer than {limit} bytes (Limits.{name}).",
                [field for field in response.fields if field[0].lower() == "set-cookie"],
            )
            member.entry = self._dialect.entry(member)
            if of_reply:
                self._reply_left = 0
        self._entry_limit = min(limit, self._reply_left)
        if not self._reply_left:
            detail = "The reply is as long as it may be (Limits.max_reply_size)."
            self._schedule.end(Problem.REPLY_LIMIT, detail)
        return response

    def _answer_group(self, members: list[Member]) -> None:
        """Answer all of a group, or have what it did undone; every entry then tells the truth."""
        assert self._transaction is not None  # or `rules` would have refused the batch
        before = self.jar.cookies()

        def finish(member: Member) -> None:
            self._answer(member)
            self._note(member)
            self._settle()

        undone = executors.atomically(members, finish, self._transaction, self._outer.context)
        self._write_waiting()
        if undone is None:
            return
        self.jar.restore(before)
        for member in members:
            if not member.failed:
                member.response = Problem.ROLLED_BACK.response(undone)
                member.entry = self._dialect.entry(member)
