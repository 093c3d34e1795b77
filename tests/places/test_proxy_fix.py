"""`ProxyFix` belongs outside: the endpoint itself looks at the client and the host."""

from __future__ import annotations

import logging

import pytest
from flask import Flask, request, url_for
from werkzeug.middleware.proxy_fix import ProxyFix

from batchwsgi import BatchMiddleware

from ..support import batch

CLIENT, HOST = "203.0.113.9", "shop.example"
FORWARDED = {
    "X-Forwarded-For": CLIENT,
    "X-Forwarded-Host": HOST,
    "X-Forwarded-Proto": "https",
}
ORDER = {"method": "post", "uri": "/orders"}
FOLLOWED = {"uri": "{$responses.0.location}"}


@pytest.fixture
def app():
    """Its redirects are absolute, with the host that it is told."""
    app = Flask(__name__)

    @app.post("/orders")
    def add():
        return "", 201, {"Location": url_for("order", _external=True)}

    @app.get("/orders/1")
    def order():
        return [request.remote_addr, request.url]

    return app.wsgi_app


def fixed(app):
    return ProxyFix(app, x_for=1, x_proto=1, x_host=1)


def clients(caplog):
    """What the access log says of them."""
    return {
        address
        for record in caplog.records
        if record.name == "batchwsgi.access"
        for address in (CLIENT, "192.0.2.7")
        if address in record.getMessage()
    }


def test_outside(app, caplog):
    caplog.set_level(logging.INFO, "batchwsgi.access")
    entries = batch(fixed(BatchMiddleware(app)), ORDER, FOLLOWED, headers=FORWARDED).entries
    assert entries[0]["headers"]["Location"] == f"https://{HOST}/orders/1"
    assert entries[1]["body"] == [CLIENT, f"https://{HOST}/orders/1"]
    assert clients(caplog) == {CLIENT}


def test_inside_the_endpoint_takes_the_proxy_for_the_client(app, caplog):
    caplog.set_level(logging.INFO, "batchwsgi.access")
    entries = batch(BatchMiddleware(fixed(app)), ORDER, FOLLOWED, headers=FORWARDED).entries
    assert entries[0]["headers"]["Location"] == f"https://{HOST}/orders/1"
    assert entries[1]["body"]["type"] == "urn:problem-type:batchwsgi:reference"
    assert clients(caplog) == {"192.0.2.7"}
