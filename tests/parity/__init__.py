"""Applications from PyPI, which nobody here wrote, are in a batch as they are alone.

Each module has one of them. Its requests read, write, upload and fail; they ask for a head, a
range and a redirect, on condition and without permission.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from batchwsgi import BatchMiddleware, Limits
from batchwsgi.testing import assert_parity, post_batch

from ..support import App

Item = dict[str, Any]


def basic(user: str, password: str) -> dict[str, str]:
    """The header of the Basic scheme (RFC 7617)."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}


def same(
    make_app: Callable[[], App],
    requests: Sequence[tuple[int, Item]],
    *,
    headers: dict[str, str],
    member_headers: Sequence[str] = (),
    **more: Any,
) -> None:
    """Assert that the requests have these statuses, and that each reply is the same alone.

    Without the statuses, an application that answers nothing but 500 would be the same too.
    """
    expected, items = zip(*requests, strict=True)
    options = {"headers": headers, "member_headers": member_headers}
    limits = replace(Limits(), max_requests=len(items))
    app = BatchMiddleware(make_app(), member_headers=member_headers, limits=limits)
    replies = post_batch(app, items, headers=headers)
    for status, reply, item in zip(expected, replies, items, strict=True):
        assert reply.status == status, f"{item['uri']}: {reply.status} {reply.body[:300]!r}"
    assert_parity(make_app, items, **options, **more)
