"""Which members of a batch go next, and which do not go at all.

Sans-IO: a schedule is asked and told. It never blocks, calls nothing, and does not know time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from batchwsgi.model import Batch, Member, OnFail, Problem

Reason = tuple[Problem, str]


class Schedule:
    """The members of `batch`, in the order in which they are dealt with.

    - `waves` gives those that come next: one, or a whole group, or, if `side_by_side`, neighbours
      that can be sent at the same time.
    - `reason_against` tells, when a member's turn has come, why it is not sent.
    - `note_failure` tells that a member failed, sent or not.
    - `hindered` tells, before a group begins, which of it could not run.
    - `end` ends the batch early, `end_group` a group.

    A batch ends early once, by the first reason; so does a group.

    `reason_against` and `end` may be called from the threads of one wave: they set at most one
    attribute, and a wave has no members that depend on each other.
    """

    def __init__(self, batch: Batch, side_by_side: bool = False) -> None:
        self._members = batch.members
        self._stops = batch.on_fail is not OnFail.IGNORE
        self._is_one_group = batch.on_fail is OnFail.ROLLBACK
        self._side_by_side = side_by_side and not self._stops
        self._ended: Reason | None = None
        self._ended_groups: dict[int, Reason] = {}

    def waves(self) -> Iterator[list[Member]]:
        """All members, in waves.

        A wave is one member, a whole group, or neighbours with safe methods that do not depend on
        each other. Anything else waits for all before it and holds back all after it.
        """
        waiting = deque(self._members)
        while waiting:
            first = waiting.popleft()
            wave = [first]
            if first.group is not None or (self._side_by_side and first.safe):
                while waiting and self._together(first, waiting[0]):
                    wave.append(waiting.popleft())
            yield wave

    def _together(self, first: Member, member: Member) -> bool:
        """Whether `member` can be in the wave of `first` and those between."""
        if first.group is not None or member.group is not None:
            return first.group == member.group
        return member.safe and (not member.depends_on or max(member.depends_on) < first.index)

    def reason_against(self, member: Member) -> Reason | None:
        """Why `member` is not to be sent; None if it is."""
        reason = self._ended
        if member.group is not None:
            reason = self._ended_groups.get(member.group, reason)
        if reason is None and member.depends_on:
            reason = self._unmet(member)
        return reason

    def hindered(self, members: Iterable[Member]) -> Member | None:
        """The first of a group that cannot run because of something outside of it."""
        for member in members:
            if self.reason_against(member) is not None:
                return member
        return None

    def _unmet(self, member: Member) -> Reason | None:
        for index in member.depends_on:
            if self._members[index].failed:
                detail = f"It depends on the request at index {index}, which failed."
                return Problem.DEPENDENCY_FAILED, detail
        return None

    def note_failure(self, member: Member) -> None:
        """Note what the failure of `member` means for others."""
        stopped = (Problem.STOPPED, f"The request at index {member.index} failed.")
        if member.group is not None and not self._is_one_group:
            self.end_group(member.group, *stopped)
        if self._stops:
            self.end(*stopped)

    def end_group(self, group: int, problem: Problem, detail: str) -> None:
        """Send nothing more of this group."""
        self._ended_groups.setdefault(group, (problem, detail))

    def end(self, problem: Problem, detail: str) -> None:
        """Send nothing from now on, for this reason; a later one changes nothing."""
        self._ended = self._ended or (problem, detail)
