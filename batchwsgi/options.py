"""The limits of a batch: frozen, and checked when constructed.

When a limit is reached, the answer names it; nothing crashes. The other options are checked by the
module that each of them configures: headers by `rules`, inherited keys by `wsgi`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf

DEEPEST = 200
"""The parser recurses, and Python stops at 1000 frames, some of them the server's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one batch may use. All values but the deadline are at least 1, all sizes are in bytes.

    Raises `TypeError` or `ValueError`, naming the limit, for a value that cannot be one.
    """

    max_requests: int = 20
    """Members in one batch. Microsoft Graph takes 20; WordPress, Kinto and Salesforce 25."""

    max_body_size: int = 1024 * 1024
    """The batch document. The default is nginx's `client_max_body_size`."""

    max_depth: int = 32
    """Levels of nested arrays and objects in the batch document, at most `DEEPEST`."""

    max_digits: int = 100
    """Digits of one number in the batch document: `int()` of many digits is quadratic."""

    max_uri_length: int = 4094
    """A member's path and query in bytes, percent-encoded, `args` included. The default is
    gunicorn's limit for a request line."""

    max_headers: int = 50
    """Headers that one member sets."""

    max_header_size: int = 8190
    """One header that a member sets, name and value together. The default is gunicorn's limit
    for a header field."""

    max_member_size: int = 1024 * 1024
    """One member's entry, as it is encoded for the reply; its body is read no further than this."""

    max_reply_size: int = 8 * 1024 * 1024
    """All entries together, as they are encoded for the reply. Entries that the endpoint wrote
    itself do not count."""

    max_reference_size: int = 256 * 1024
    """What references bring into one member, as JSON; counted before anything is built of it."""

    deadline: float = 20.0
    """Seconds, on the monotonic clock, from the call of the middleware. No member *starts* after
    it, and a response that goes on is ended between two of its chunks; WSGI cannot stop a member
    otherwise. gunicorn kills a worker after 30 s. 0: none starts."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            allowed = (int, float) if field.name == "deadline" else (int,)
            if type(value) not in allowed:
                kinds = " or ".join(kind.__name__ for kind in allowed)
                raise TypeError(f"Limits.{field.name}: {value!r} is not {kinds}")
            least = 0 if field.name == "deadline" else 1
            if field.name == "max_depth" and value > DEEPEST:
                raise ValueError(f"Limits.max_depth: {value!r} is more than {DEEPEST}")
            if not least <= value < inf:
                raise ValueError(
                    f"Limits.{field.name}: {value!r} is not {least} or more, and finite"
                )
