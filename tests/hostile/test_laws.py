"""Each law of `tests.hostile.laws`, tried with some hundreds of cases.

`python -m tests.fuzz` tries them for longer.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import given, settings

from . import laws


@pytest.fixture(autouse=True, scope="module")
def _no_log() -> Iterator[None]:
    """Thousands of tracebacks would be formatted for nothing."""
    logger = logging.getLogger("batchwsgi")
    logger.disabled = True
    yield
    logger.disabled = False


@pytest.mark.parametrize("name", laws.LAWS)
def test_law(name: str) -> None:
    law = laws.LAWS[name]
    settings(max_examples=law.examples, deadline=None)(given(*law.cases)(law.holds))()


def test_an_entry_of_each_kind() -> None:
    for start in range(0, len(laws.KINDS), 20):
        kinds = laws.KINDS[start : start + 20]
        laws.entries_answer_requests(kinds, stops=False, max_reply_size=8 * 1024 * 1024)
