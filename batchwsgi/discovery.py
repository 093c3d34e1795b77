"""What `OPTIONS` of the endpoint answers: its methods, formats and limits.

All of it follows from the endpoint's options, so that it is written once. None of it is a secret:
refusals name the same limits and headers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from batchwsgi.dialects import Dialect, speaks_native
from batchwsgi.model import OnFail
from batchwsgi.rules import Rules


class Discovery:
    """The answer to `OPTIONS` (RFC 9110 §9.3.7), the same for every request.

    `dialects` and `rules` are the endpoint's; `has_console` tells that `GET` has a page.
    """

    def __init__(self, dialects: Sequence[Dialect], rules: Rules, has_console: bool) -> None:
        media_types = [dialect.media_type for dialect in dialects]
        document = {
            "dialects": media_types,
            **(_native(rules) if speaks_native(dialects) else {}),
            "limits": asdict(rules.limits),
            "member_headers": rules.member_headers,
        }
        self._body = json.dumps(document).encode()
        self.allowed = "GET, HEAD, OPTIONS, POST" if has_console else "OPTIONS, POST"
        """The methods that the endpoint knows, as `Allow` lists them (RFC 9110 §10.2.1)."""
        self._headers = (
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(self._body))),
            ("Allow", self.allowed),
            ("Accept-Post", ", ".join(media_types)),  # W3C Linked Data Platform 1.0 §7.1
        )

    def reply(self) -> tuple[str, list[tuple[str, str]], Iterable[bytes]]:
        """Status, headers and body."""
        return "200 OK", [*self._headers], [self._body]


def _native(rules: Rules) -> dict[str, list[str]]:
    """What only the native dialect has: what a failure does to the rest, and the streamed form."""
    on_fail = [choice.value for choice in OnFail]
    if not rules.can_roll_back:
        on_fail.remove(OnFail.ROLLBACK.value)
    return {"on-fail": on_fail, "streaming": ["application/x-ndjson"]}
