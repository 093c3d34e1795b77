"""Requests and applications that mean harm, in process and under every server."""

import pytest

pytest.register_assert_rewrite("tests.hostile.answers", "tests.hostile.laws")
