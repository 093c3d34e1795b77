"""Fixtures of the parity tests."""

from __future__ import annotations

import pytest

from batchwsgi import executors


@pytest.fixture(params=[0, 4], ids=["", "threads"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many threads there are; they begin at once, and not with slow members alone."""
    monkeypatch.setattr(executors, "PATIENCE", 0.000_001)
    number: int = request.param
    return number
