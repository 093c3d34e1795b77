"""Faults that the application has on purpose, to see that the soak finds them.

`SOAK_FAULT` names them, with commas between:

    mixed-up  every twentieth answer has the token of another
    lost      every tenth write is answered and not done
    twice     every tenth write is done twice
    memory    every request leaves a kilobyte behind
    handle    every twentieth request leaves a file open
    thread    every twentieth request leaves a thread behind
    open      every twentieth response is not closed
"""

from __future__ import annotations

import os
import threading
from itertools import count
from typing import Any

FAULTS = ("mixed-up", "lost", "twice", "memory", "handle", "thread", "open")

_named = frozenset(filter(None, os.environ.get("SOAK_FAULT", "").split(",")))
_counts = {fault: count(1) for fault in FAULTS}
_kept: list[Any] = []


def occurs(fault: str, every: int = 1) -> bool:
    """Whether that fault is named, and its turn has come."""
    return fault in _named and next(_counts[fault]) % every == 0


def in_request() -> None:
    """What each request leaves behind."""
    if occurs("memory"):
        _kept.append(os.urandom(1024))
    if occurs("handle", 20):
        _kept.append(os.dup(0))
    if occurs("thread", 20):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


def named(token: str) -> str:
    """The token that an answer has."""
    return "another" if occurs("mixed-up", 20) else token


def times() -> int:
    """How often a write is done."""
    if occurs("lost", 10):
        return 0
    return 2 if occurs("twice", 10) else 1
