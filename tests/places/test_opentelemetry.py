"""OpenTelemetry's instrumentation, with spans kept in memory: each provider is a test's own."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from threading import Barrier

import pytest
from flask import Flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from batchwsgi import BatchMiddleware

from ..servers.harness import ROOT
from ..support import batch

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OTHER_TRACE = "5b8aa5a2d2c872e8321cf37308d69df2"
TRACED = {"Traceparent": f"00-{TRACE}-{SPAN}-01"}
PAGES = ["/1?x=2", "/2", "/9"]
MEMBERS = [
    ("GET /<int:n>", "http://localhost/1?x=2", 200),
    ("GET /<int:n>", "http://localhost/2", 200),
    ("GET /<int:n>", "http://localhost/9", 500),
]
BATCH = ("POST /batch", "http://localhost/batch", 200)


class Spans(InMemorySpanExporter):
    """Those that ended, and the provider that makes them."""

    def __init__(self):
        super().__init__()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self))

    def by_url(self):
        """Name, URL and status of each, sorted: side by side they end in any order."""
        return sorted(
            (
                (span.name, span.attributes["http.url"], span.attributes.get("http.status_code"))
                for span in self.get_finished_spans()
            ),
            key=lambda named: named[1],
        )

    def parents(self):
        """By the last segment of its URL, the ids of each span's trace and parent."""
        return {
            span.attributes["http.url"].rpartition("/")[2]: (
                f"{span.context.trace_id:032x}",
                span.parent and f"{span.parent.span_id:016x}",
            )
            for span in self.get_finished_spans()
        }


@pytest.fixture
def spans(caplog):
    spans = Spans()
    yield spans
    logged = [record.name for record in caplog.get_records("call")]
    assert not [name for name in logged if name.startswith("opentelemetry")]


@pytest.fixture(params=[0, 3], ids=["in order", "threads"])
def threads(request):
    return request.param


def flask_app(threads=0, spans=None):
    """Its view fails for 9; three members meet in it where there are threads.

    It is instrumented where spans are given.
    """
    meeting = Barrier(threads or 1)
    app = Flask(__name__)
    app.logger.setLevel(logging.CRITICAL)
    if spans:
        FlaskInstrumentor().instrument_app(app, tracer_provider=spans.provider)

    @app.get("/<int:n>")
    def view(n):
        meeting.wait(10)
        return {"share": 9 // (9 - n)}

    return app


def test_flask_instrumented_before_it_is_wrapped(spans, threads):
    app = flask_app(threads, spans)
    app.wsgi_app = BatchMiddleware(app.wsgi_app, threads=threads)
    batch(app, *PAGES)
    assert spans.by_url() == MEMBERS
    traces = {trace for trace, _ in spans.parents().values()}
    assert len(traces) == 3, "each is a trace of its own"


def test_flask_instrumented_after_it_was_wrapped(spans):
    """The instrumentation is then outside: its spans know no status."""
    app = flask_app()
    app.wsgi_app = BatchMiddleware(app.wsgi_app)
    FlaskInstrumentor().instrument_app(app, tracer_provider=spans.provider)
    batch(app, *PAGES)
    assert spans.by_url() == [(name, url, None) for name, url, _ in MEMBERS]


def test_wsgi_inside(spans, threads):
    app = OpenTelemetryMiddleware(flask_app(threads), tracer_provider=spans.provider)
    batch(BatchMiddleware(app, threads=threads), *PAGES)
    assert spans.by_url() == [
        ("GET /1", *MEMBERS[0][1:]),
        ("GET /2", *MEMBERS[1][1:]),
        ("GET /9", *MEMBERS[2][1:]),
    ]


def test_wsgi_outside(spans, threads):
    app = BatchMiddleware(flask_app(threads), threads=threads)
    batch(OpenTelemetryMiddleware(app, tracer_provider=spans.provider), *PAGES)
    assert spans.by_url() == [BATCH]


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_on_both_sides_members_are_children_of_the_batch(spans, threads, accept):
    app = BatchMiddleware(flask_app(threads, spans), threads=threads)
    app = OpenTelemetryMiddleware(app, tracer_provider=spans.provider)
    batch(app, *PAGES, headers={"Accept": accept, **TRACED})
    assert spans.by_url() == [*MEMBERS, BATCH]
    (own,) = (span for span in spans.get_finished_spans() if span.name == BATCH[0])
    parent = (TRACE, f"{own.context.span_id:016x}")
    assert spans.parents() == {
        "batch": (TRACE, SPAN),
        **dict.fromkeys(["1?x=2", "2", "9"], parent),
    }


def test_members_inherit_the_trace_and_may_set_their_own(spans, threads):
    own = {"uri": "/2", "headers": {"Traceparent": f"00-{OTHER_TRACE}-{SPAN}-01"}}
    app = BatchMiddleware(flask_app(threads, spans), threads=threads)
    batch(app, "/1", own, "/9", headers=TRACED)
    assert spans.parents() == {
        "1": (TRACE, SPAN),
        "2": (OTHER_TRACE, SPAN),
        "9": (TRACE, SPAN),
    }


DJANGO = """
import json
from django.conf import settings
settings.configure(ALLOWED_HOSTS=["localhost"], ROOT_URLCONF="__main__", MIDDLEWARE=[])
from django.http import HttpResponse
from django.urls import path
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from tests.places.test_opentelemetry import PAGES, TRACED, Spans
from tests.support import batch

urlpatterns = [path("<int:n>", lambda request, n: HttpResponse(str(9 // (9 - n))))]
from tests.places.recipe_opentelemetry import application, provider
spans = Spans()
provider.add_span_processor(SimpleSpanProcessor(spans))
batch(application.wsgi, *PAGES)
alone = spans.by_url()
spans.clear()
batch(application, *PAGES, headers=TRACED)
own = spans.get_finished_spans()[-1].context.span_id
print(json.dumps([alone, spans.by_url(), f"{own:016x}", spans.parents()]))
"""
"""In a process of its own: the recipe instruments all of Django, with the provider of all."""


def test_django():
    """Without a span of the batch, and with it: members then are its children."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", DJANGO], cwd=ROOT, check=True, capture_output=True
    )
    alone, nested, own, parents = json.loads(run.stdout.splitlines()[-1])
    members = [["GET <int:n>", *rest] for _, *rest in MEMBERS]
    assert alone == members
    assert nested == [*members, [*BATCH]]
    assert parents.pop("batch") == [TRACE, SPAN]
    assert list(parents.values()) == [[TRACE, own]] * 3
