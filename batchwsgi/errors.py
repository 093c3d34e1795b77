"""What can be wrong with a batch, and how it is told.

    BatchError                  400  the batch is unusable, and nothing of it has run
    ├── Malformed               400  it is not a batch, or something in it is not allowed: `Faults`
    ├── MethodNotAllowed        405  a batch is posted
    ├── LengthRequired          411  nothing says where the body ends
    ├── TooLarge                413  the document, or the number of its requests, is over a limit
    ├── UnsupportedMediaType    415  no dialect reads this media type or content coding
    └── Unavailable             503  the operator's transaction could not be entered
    Unresolved                       a reference of one member could not be filled in

A `BatchError` is caught in one place, in the middleware, which answers with its `document`. The
failure of one *member* is none of these but a `Response` like any other (`model.Problem`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import ClassVar, NamedTuple

FAULTS_LISTED = 100
"""How many faults a refusal lists; it then says how many more there are."""
LONGEST = 300
"""Characters of a pointer or a detail."""


class Fault(NamedTuple):
    """One thing wrong with a batch document, and where: a JSON Pointer (RFC 6901) into it."""

    pointer: str
    detail: str
    """What is wrong, for a person."""


class Faults:
    """The faults of a batch document: the first `FAULTS_LISTED`, and how many there are.

    A document can have hundreds of thousands: pointers are made for those that are listed alone,
    and are not much longer than `LONGEST` characters.
    """

    def __init__(self) -> None:
        self.listed: list[Fault] = []
        self.count = 0
        self._within: tuple[str | int, ...] = ()
        self._once: set[tuple[str | int, ...]] = set()

    def enter(self, *place: str | int) -> None:
        """From now on all places are relative to this one, given as reference tokens."""
        self._within = place
        self._once.clear()

    def add(self, detail: str, *place: str | int) -> None:
        """Note that something is wrong at `place`."""
        if len(self.listed) < FAULTS_LISTED:
            self.listed.append(Fault(_pointer(*self._within, *place), shortened(detail)))
        self.count += 1

    def add_once(self, detail: str, *place: str | int) -> None:
        """The same for a place that is looked at twice: only its first fault counts."""
        if place not in self._once:
            self._once.add(place)
            self.add(detail, *place)

    def __bool__(self) -> bool:
        return self.count > 0


class BatchError(Exception):
    """The batch is unusable, and nothing of it has run.

    Its own status is 400; subclasses may have another.
    """

    status: ClassVar[int] = 400

    def __init__(self, detail: str, faults: Faults | None = None) -> None:
        super().__init__(detail)
        self.detail = f"{shortened(detail)} Nothing was executed."
        self.faults = faults or Faults()
        self.fields: Sequence[tuple[str, str]] = ()
        """More header lines of the refusal."""

    def document(self, more: Mapping[str, object] | None = None) -> bytes:
        """The refusal as a problem document (RFC 9457); `more` are a dialect's own members."""
        document: dict[str, object] = {
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.faults:
            document["errors"] = [fault._asdict() for fault in self.faults.listed]
            unlisted = self.faults.count - len(self.faults.listed)
            if unlisted:
                document["more"] = unlisted
        return problem_document({**document, **(more or {})})


class Malformed(BatchError):
    """400: the document is not a batch, or something in it is not allowed."""

    def __init__(self, faults: Faults) -> None:
        more = faults.count - len(faults.listed)
        count = "1 fault" if faults.count == 1 else f"{faults.count} faults"
        listed = f", {more} of them not listed" if more else ""
        super().__init__(f"The batch has {count}{listed}.", faults)


class MethodNotAllowed(BatchError):
    """405: a batch is posted; `allowed` names all methods that the path knows."""

    status = 405

    def __init__(self, detail: str, allowed: str) -> None:
        super().__init__(detail)
        self.fields = (("Allow", allowed),)


class LengthRequired(BatchError):
    """411: nothing says where the body ends."""

    status = 411


class TooLarge(BatchError):
    """413: the document, or the number of its requests, is over a limit, which is named."""

    status = 413


class UnsupportedMediaType(BatchError):
    """415: no dialect reads this media type or content coding."""

    status = 415


class Unavailable(BatchError):
    """503: the operator's transaction could not be entered."""

    status = 503


class Unresolved(Exception):
    """A reference of a member could not be filled in, or what it brings is not allowed."""


def shortened(detail: str) -> str:
    """`detail`, cut to `LONGEST` characters and an ellipsis if it is longer."""
    return detail if len(detail) <= LONGEST else f"{detail[:LONGEST]}…"


def shown(text: str) -> str:
    """`text` as an error can show it: quoted, escaped, short."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def problem_document(members: Mapping[str, object]) -> bytes:
    """A problem document (RFC 9457) with these members."""
    return json.dumps(members, ensure_ascii=False).encode()


def _pointer(*tokens: str | int) -> str:
    """The JSON Pointer (RFC 6901 §3) of these reference tokens.

    If it would be too long, it ends at the last token that fits.
    """
    pointer = ""
    for token in tokens:
        text = str(token)
        if len(pointer) + len(text) > LONGEST:  # before it is looked at: there may be many
            break
        pointer += "/" + text.replace("~", "~0").replace("/", "~1")
    return pointer
