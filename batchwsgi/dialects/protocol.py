"""What a dialect is: how a batch is read, and how its reply is written.

A `Dialect` reads a batch and, for each reply, makes a `Writer`. What belongs to one reply (its
status, its headers, a boundary) belongs to its writer. A dialect knows media types, names and
encodings, and nothing of WSGI, schedules or threads.

Anybody can write one. `decode` counts the requests first (`rules.limits.max_requests`). Then it
makes a `model.Member` for each. A member has its index, a `model.Request`, and as its source
whatever the writer needs. The request has to pass the rules: `rules.checked_method`,
`Rules.target`, `Rules.header` and `Rules.count_headers`. They raise `ValueError`, which says what
is wrong. `decode` collects that in `errors.Faults`, and in the end raises `errors.Malformed` with
all of them. `README.md` in this folder has an example.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from batchwsgi.errors import BatchError
from batchwsgi.model import Batch, Member, OuterRequest, Response
from batchwsgi.rules import Rules

PIECE = 64 * 1024
"""Bytes of a reply, or somewhat more, that the server gets, and sends, at once."""


class Writer(Protocol):
    """Writes one reply."""

    status: str
    """The status line without the version: `"200 OK"`."""
    headers: Sequence[tuple[str, str]]
    """Its `Content-Type`, and what else the dialect has to say."""
    streamed: bool
    """Whether the reply is sent while members still run."""

    def entry(self, member: Member) -> bytes:
        """The part of the reply that tells of `member`, which has its response.

        Its length counts against the limits.
        """
        ...

    def longest(self, response: Response) -> int:
        """The most bytes that an entry with this response can have.

        What the entry repeats of the batch document does not count (`Batch.size`).
        """
        ...

    def parts(self, members: Iterable[Member]) -> Iterator[bytes]:
        """The body of the reply, in parts that the server sends at once.

        Each member has its entry; set `member.entry = b""` once it is used, so that its memory is
        freed. In a streamed reply the members come one by one, each as soon as it is done.
        """
        ...


class Dialect(Protocol):
    """One format of batches."""

    media_type: str
    """The essence of the `Content-Type` that it reads (RFC 9110 §8.3.1)."""

    def decode(self, body: bytes, outer: OuterRequest, rules: Rules) -> Batch:
        """The batch in `body`, checked whole. Raises `BatchError`, and nothing else."""
        ...

    def writer(self, batch: Batch, outer: OuterRequest) -> Writer:
        """What writes the reply to `batch`."""
        ...

    def refusal(self, error: BatchError) -> Mapping[str, object]:
        """More members for the problem document (RFC 9457) that refuses a batch."""
        ...
