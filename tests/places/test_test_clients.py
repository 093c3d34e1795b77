"""Tests of one's own: which clients meet the endpoint."""

from __future__ import annotations

import pytest
from flask import Flask
from werkzeug.test import Client

from batchwsgi import BatchMiddleware

DOCUMENT = {"requests": [{"uri": "/nothing"}]}


def test_djangos_client_bypasses_what_wraps_django():
    from django.test import Client as DjangoClient

    from ..frameworks import django_app

    application = BatchMiddleware(django_app.make_app())
    client = DjangoClient(headers={"host": "localhost"})
    assert client.post("/batch", DOCUMENT, "application/json").status_code == 404
    assert Client(application).post("/batch", json=DOCUMENT).status_code == 200


@pytest.mark.parametrize(("wrapped", "status"), [("app.wsgi_app", 200), ("around", 404)])
def test_flasks_client_meets_it_as_wsgi_app(wrapped, status):
    app = Flask(__name__)
    around = BatchMiddleware(app.wsgi_app)
    if wrapped == "app.wsgi_app":
        app.wsgi_app = around
    assert app.test_client().post("/batch", json=DOCUMENT).status_code == status
    assert Client(around).post("/batch", json=DOCUMENT).status_code == 200
