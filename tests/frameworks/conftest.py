"""Fixtures of the framework tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ..support import App
from .parity import FRAMEWORKS


@pytest.fixture(params=FRAMEWORKS)
def make_app(request: pytest.FixtureRequest) -> Callable[[], App]:
    """Each framework's factory of the small application."""
    return FRAMEWORKS[request.param]
