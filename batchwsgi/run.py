"""One batch on its way: each member finished, within the limits.

Here meet what a member needs to be finished: the schedule, the outer request, the dialect, cookies,
the limits. How a request is sent or an entry is written is decided elsewhere.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from contextlib import closing
from time import monotonic, perf_counter

from batchwsgi import executors
from batchwsgi.cookies import Jar
from batchwsgi.dialects import Dialect
from batchwsgi.executors import Pool, Transaction
from batchwsgi.model import Batch, Member, Problem, Response, Unresolved
from batchwsgi.options import Limits
from batchwsgi.schedule import Schedule
from batchwsgi.wsgi import Outer

access_log = logging.getLogger("batchwsgi.access")

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
        self._member_limit = limits.max_member_size
        self._reply_left = limits.max_reply_size
        self._lock = threading.Lock()  # of what is left of the reply
        self._logs = access_log.isEnabledFor(logging.INFO)

    def members(self) -> Generator[Member]:
        """All members, each when it is done. Lazy: what is not asked for is not started.

        Raises `BatchError` at the first, if the batch cannot be run at all.
        """
        return executors.run(
            self._schedule, self._finish, self._finish_group, self.jar.keep, self._pool
        )

    def lines(self) -> Generator[bytes]:
        """The parts of a streamed reply; what was handed over is let go."""
        with closing(self.members()) as members:
            for member in members:
                line = self._dialect.line(member)
                member.entry = b""
                yield line

    def _finish(self, member: Member) -> None:
        """Send `member`, if it is to be sent, write its entry, and tell the schedule.

        The entry comes before the schedule is told: its length may make the member a failure.
        """
        if monotonic() >= self._deadline:
            self._schedule.end(
                Problem.DEADLINE, "The time for the batch was over (Limits.deadline)."
            )
        self._schedule.start(member)
        if member.response is None:
            member.response = self._response(member)
        member.entry = self._dialect.entry(member)
        if member.response.problem in (None, Problem.TOO_LARGE):
            self._count(member, member.response)
        if len(member.response.body) > KEPT_BODY and not member.referenced:
            member.response = member.response._replace(body=b"")
        self._schedule.done(member)

    def _response(self, member: Member) -> Response:
        """The response to `member`, whose turn has come."""
        if member.bind:
            try:
                member.request = member.bind()
            except Unresolved as error:
                return Problem.REFERENCE.response(str(error))
        limit = min(self._member_limit, self._reply_left)
        cookie = self.jar.header(member.request.target)
        if not self._logs:
            return self._outer.send(member.request, limit, cookie)
        started = perf_counter()
        response = self._outer.send(member.request, limit, cookie)
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

    def _count(self, member: Member, response: Response) -> None:
        """Count the entry of `member` against the limits, and answer otherwise if it passes one.

        `response` is the application's; its cookies stay, as they would have reached the client.
        """
        size = len(member.entry)
        with self._lock:
            if response.problem is None and size <= self._member_limit and size <= self._reply_left:
                self._reply_left -= size
            else:
                limit = min(self._member_limit, self._reply_left)
                name = "max_member_size"
                if limit == self._reply_left:
                    name = "max_reply_size"
                    self._reply_left = 0
                member.response = Problem.TOO_LARGE.response(
                    f"The entry is longer than {limit} bytes (Limits.{name}).",
                    [field for field in response.fields if field[0].lower() == "set-cookie"],
                )
                member.entry = self._dialect.entry(member)
            if not self._reply_left:
                detail = "The reply is as long as it may be (Limits.max_reply_size)."
                self._schedule.end(Problem.REPLY_LIMIT, detail)

    def _finish_group(self, members: list[Member]) -> None:
        """Finish all of a group, or have what it did undone; every entry then tells the truth."""
        assert self._transaction is not None  # or `rules` would have refused the batch
        before = self.jar.cookies()

        def finish(member: Member) -> None:
            self._finish(member)
            self.jar.keep([member])

        undone = executors.atomically(members, finish, self._transaction, self._outer.context)
        if undone is None:
            return
        self.jar.restore(before)
        for member in members:
            if not member.failed:
                member.response = Problem.ROLLED_BACK.response(undone)
                member.entry = self._dialect.entry(member)
