"""Sentry's SDK patches `Flask.__call__`: what it takes for one request has to be one member."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ..servers.harness import ROOT


@pytest.fixture(scope="module")
def reports():
    """What was reported, by where the middleware was."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.places.sentry_reports"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return json.loads(run.stdout)


OWN = [
    ["GET", "/fail", "n=2", None, None, ["n2"]],
    ["POST", "/fail", "n=3", {"sku": "B2"}, "bob", ["n3"]],
]


def test_the_recipe(reports):
    assert reports["recipe"] == [["http://localhost/orders/0", "order"]]


def test_around_the_flask_object(reports):
    assert reports["around the Flask object"] == OWN


def test_side_by_side(reports):
    assert reports["side by side"] == [
        ["GET", "/meet", "n=1", None, None, ["n1"]],
        ["GET", "/meet", "n=2", None, None, ["n2"]],
    ]


def test_inside_reports_have_another_members_body_and_user(reports):
    assert reports["app.wsgi_app"] == [
        ["POST", "/batch", "", {"sku": "A1"}, "ada", ["n1", "n2"]],
        ["POST", "/batch", "", {"sku": "B2"}, "bob", ["n1", "n2", "n3"]],
    ]


def test_django(reports):
    assert reports["Django"] == OWN
