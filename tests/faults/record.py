"""What really happened: a file to which an application appends a line for each event.

It outlives the process that writes it, so it tells the truth about a worker that was killed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE = 15.0
"""Seconds that anything that a test waits for may take."""

NOT_EXECUTED = ("stopped", "deadline", "reply-limit")
"""The problems of a member that the application was not called for."""


class Line(NamedTuple):
    """One event: what happened, in which member, and in which process."""

    event: str
    name: str
    pid: int


class Record:
    """The file, from both sides: `add` is the application's, all else the tests'."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def add(self, event: str, name: str) -> None:
        """Append one line, in one write: nothing of it is lost when the process is killed."""
        with self.path.open("ab", buffering=0) as file:
            file.write(f"{event} {name} {os.getpid()}\n".encode())

    def lines(self) -> list[Line]:
        """All that happened so far."""
        fields = (line.split() for line in self.path.read_text().splitlines())
        return [Line(event, name, int(pid)) for event, name, pid in fields]

    def events(self, name: str) -> list[str]:
        """What happened in the member of that name."""
        return [line.event for line in self.lines() if line.name == name]

    def wait_for(self, event: str, name: str) -> int:
        """Wait until that happened; the process in which it did."""

        def found() -> list[int]:
            return [line.pid for line in self.lines() if line[:2] == (event, name)]

        return int(until(found)[0])

    def gate(self, name: str) -> Path:
        """The file for which a member at `/wait/<name>` waits."""
        return self.path.with_name(f"{name}.open")

    def check(self, entries: Iterable[dict[str, Any]]) -> None:
        """Every entry says what happened to its member, and nothing else."""
        for entry in entries:
            events = self.events(entry["uri"].rpartition("/")[2])
            if entry["status_code"] == "200":
                assert events == ["started", "finished"]
                continue
            reason = entry["body"]["type"].removeprefix("urn:problem-type:batchwsgi:")
            if reason in NOT_EXECUTED:
                assert events == []
            else:
                assert (reason, events) == ("application-error", ["started"])


def until(condition: Callable[[], Any]) -> Any:
    """Wait for a true value of `condition`, and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value
