"""Which member of a batch goes next, and what a failure leaves out.

Sans-IO: a schedule is asked and told. It never blocks, calls nothing, and does not know time.
"""

from __future__ import annotations

from collections import deque

from batchwsgi.model import Batch, Member, OnFail, Problem


class Schedule:
    """The members of `batch` in the order in which they are dealt with.

    `next` gives the member that comes next; if it has its response by then, it is not to be sent.
    `done` tells that a member has its response. A batch ends early once, by the first `end`; what
    has not been sent by then is answered with that reason.
    """

    def __init__(self, batch: Batch) -> None:
        self._waiting = deque(batch.members)
        self._stops = batch.on_fail is OnFail.STOP
        self._ended: tuple[Problem, str] | None = None

    def next(self) -> Member | None:
        """The next member, or None when all have been given."""
        if not self._waiting:
            return None
        member = self._waiting.popleft()
        if self._ended:
            reason, detail = self._ended
            member.response = reason.response(detail)
        return member

    def done(self, member: Member) -> None:
        """`member`, given by `next`, has its response."""
        if self._stops and member.failed:
            self.end(Problem.STOPPED, f"The request at index {member.index} failed.")

    def end(self, reason: Problem, detail: str) -> None:
        """Send nothing from now on, for this reason; a later one changes nothing."""
        self._ended = self._ended or (reason, detail)
