"""What is particular to Django: middleware, sessions, CSRF, signals, connections, hosts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.core import signals
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.db.backends.signals import connection_created
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.test import override_settings
from django.urls import path
from django.utils.translation import get_language, gettext

from ..support import App, ask, batch, environ

# Importing models needs a configured Django: `conftest` has seen to it, by way of `django_app`.

# --- An application of its own -----------------------------------------------------------------


def hello(request: HttpRequest):
    return JsonResponse({"hello": request.GET.get("name")})


def crash(request: HttpRequest):
    raise LookupError("crash")


def token(request: HttpRequest):
    return JsonResponse({"token": get_token(request)})


def save(request: HttpRequest):
    return JsonResponse({"saved": request.POST.get("name")}, status=201)


def count(request: HttpRequest):
    visits = request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": visits})


def sessions(request: HttpRequest):
    return JsonResponse({"sessions": Session.objects.count()})


def host(request: HttpRequest):
    url = request.build_absolute_uri("/hello")
    return JsonResponse({"url": url, "get_host": request.get_host()})


def stream(request: HttpRequest):
    def lines() -> Iterator[str]:
        happened.append("first line")
        yield "first\n"
        happened.append("last line")
        yield "last\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


def language(request: HttpRequest):
    required = gettext("This field is required.")
    return JsonResponse({"language": get_language(), "required": required})


urlpatterns = [
    path("hello", hello),
    path("crash", crash),
    path("token", token),
    path("save", save),
    path("count", count),
    path("sessions", sessions),
    path("host", host),
    path("stream", stream),
    path("language", language),
]


@pytest.fixture
def app() -> Iterator[App]:
    with override_settings(ROOT_URLCONF=__name__):
        yield get_wsgi_application()


happened: list[str] = []


def watching(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """A middleware with all that Django calls: each call is noted in `happened`."""

    class Watching:
        def __call__(self, request: HttpRequest) -> HttpResponse:
            happened.append(f"request {request.path}")
            if "early" in request.GET:
                response: HttpResponse = JsonResponse({"early": True})
            else:
                response = get_response(request)
            happened.append(f"response {response.status_code}")
            return response

        def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
            happened.append(f"view {view.__name__}")

        def process_exception(self, request: HttpRequest, error: Exception) -> None:
            happened.append(f"exception {error!r}")

    return Watching()


SIGNALS = {
    "request_started": signals.request_started,
    "request_finished": signals.request_finished,
    "got_request_exception": signals.got_request_exception,
}


@pytest.fixture
def events() -> Iterator[list[str]]:
    """Calls of the middleware and signals, in order."""
    receivers = [
        (signal, lambda sender, name=name, **extra: happened.append(f"signal {name}"))
        for name, signal in SIGNALS.items()
    ]
    for signal, receiver in receivers:
        signal.connect(receiver)
    happened.clear()
    yield happened
    for signal, receiver in receivers:
        assert signal.disconnect(receiver)


@pytest.fixture
def watched_app() -> Iterator[App]:
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[f"{__name__}.watching"]):
        yield get_wsgi_application()


# --- Middleware and signals --------------------------------------------------------------------


def test_everything_runs_once_and_in_order(watched_app, events, wrap):
    assert batch(wrap(watched_app), "/hello?name=ada").entries[0]["body"]["hello"] == "ada"
    assert events == [
        "signal request_started",
        "request /hello",
        "view hello",
        "response 200",
        "signal request_finished",
    ]


def test_events_are_those_of_the_requests_alone(watched_app, events, wrap):
    targets = ["/hello", "/hello?early=1", "/crash", "/nowhere", "/hello"]
    alone = [ask(watched_app, environ("GET", target)).status for target in targets]
    assert alone == [200, 200, 500, 404, 200]
    expected = events.copy()
    events.clear()
    reply = batch(wrap(watched_app), *targets)
    assert [int(entry["status_code"]) for entry in reply.entries] == alone
    assert events == expected
    assert events.count("signal request_started") == len(targets)
    assert events.count("signal request_finished") == len(targets)
    assert events.count("signal got_request_exception") == 1
    assert events.count("exception LookupError('crash')") == 1


def test_exception_is_that_members_500(app, wrap, caplog):
    with caplog.at_level(logging.ERROR, "django.request"):
        entries = batch(wrap(app), "/hello?name=a", "/crash", "/hello?name=b").entries
    assert [entry["status_code"] for entry in entries] == ["200", "500", "200"]
    assert entries[1]["encoding"] == "text"
    assert "Server Error (500)" in entries[1]["body"]
    assert [entry["body"]["hello"] for entry in (entries[0], entries[2])] == ["a", "b"]
    [record] = caplog.records
    assert record.exc_info[0] is LookupError


def test_exception_that_django_raises_again_is_an_application_error(app, wrap):
    with override_settings(DEBUG_PROPAGATE_EXCEPTIONS=True):
        entries = batch(wrap(app), "/crash", "/hello?name=ada").entries
    assert entries[0]["body"]["type"] == "urn:problem-type:batchwsgi:application-error"
    assert entries[1]["body"]["hello"] == "ada"


def test_streamed_reply_is_read_before_request_finished(watched_app, events, wrap):
    reply = batch(wrap(watched_app), "/stream", "/hello")
    assert reply.entries[0]["body"] == "first\nlast\n"
    assert events[: events.index("request /hello")] == [
        "signal request_started",
        "request /stream",
        "view stream",
        "response 200",
        "first line",
        "last line",
        "signal request_finished",
        "signal request_started",
    ]


def test_language_is_each_members_own(wrap):
    members = [
        {"uri": "/language", "headers": {"Accept-Language": "de"}},
        {"uri": "/language", "headers": {"Accept-Language": "fr;q=0.9, zh;q=0.1"}},
        {"uri": "/language"},
    ]
    middleware = ["django.middleware.locale.LocaleMiddleware"]
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=middleware):
        reply = batch(wrap(get_wsgi_application()), *members, headers={"Accept-Language": "ja, en"})
    assert [entry["body"]["language"] for entry in reply.entries] == ["de", "fr", "ja"]
    assert [entry["headers"]["Content-Language"] for entry in reply.entries] == ["de", "fr", "ja"]
    assert len({entry["body"]["required"] for entry in reply.entries}) == 3


# --- Sessions and connections ------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Iterator[None]:
    """A SQLite file as Django's database, with the table of sessions in it."""
    connection.close()
    memory = connection.settings_dict["NAME"]
    connection.settings_dict["NAME"] = tmp_path / "sessions.sqlite3"
    with connection.schema_editor() as editor:
        editor.create_model(Session)
    connection.close()
    yield
    connection.close()
    connection.settings_dict["NAME"] = memory


def only_cookie(set_cookies: list[str]) -> str:
    [cookie] = set_cookies
    return cookie.strip().partition(";")[0]  # Django begins the value with a space


@pytest.mark.usefixtures("database")
def test_session_is_made_and_used(app, wrap):
    wrapped = wrap(app)
    first = batch(wrapped, "/hello", "/count")
    assert first.entries[1]["body"] == {"visits": 1}
    assert "Set-Cookie" not in first.entries[1]["headers"]
    cookie = only_cookie(first.headers.getlist("Set-Cookie"))
    assert cookie.startswith("sessionid=")
    members = ["/count", "/count", "/sessions"]
    reply = batch(wrapped, *members, headers={"Cookie": cookie})
    assert [entry["body"] for entry in reply.entries] == [
        {"visits": 2},
        {"visits": 3},
        {"sessions": 1},
    ]


@pytest.mark.parametrize(("max_age", "stays"), [(0, False), (None, True)], ids=["0", "None"])
@pytest.mark.usefixtures("database")
def test_connections_are_closed_as_conn_max_age_says(app, wrap, monkeypatch, max_age, stays):
    """Django closes at `request_finished`, for each member; the second does not connect at all."""
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", max_age)
    seen: dict[str, list[bool]] = {"connected": [], "open": []}

    def connected(**signal: Any) -> None:
        seen["connected"].append(True)

    def finished(**signal: Any) -> None:  # called after Django's own close_old_connections
        seen["open"].append(connection.connection is not None)

    connection_created.connect(connected)
    signals.request_finished.connect(finished)
    try:
        reply = batch(wrap(app), "/sessions", "/hello", "/sessions")
    finally:
        signals.request_finished.disconnect(finished)
        connection_created.disconnect(connected)
    assert [entry["status_code"] for entry in reply.entries] == ["200"] * 3
    assert seen["open"] == [stays] * 3
    assert len(seen["connected"]) == (1 if stays else 2)


# --- CSRF --------------------------------------------------------------------------------------

SECRET = "a" * 32
SAVE = {"method": "post", "uri": "/save", "args": {"name": "ada"}}
SAVE_WITH_HEADER = SAVE | {"headers": {"X-CSRFToken": SECRET}}
HTTPS = {"wsgi.url_scheme": "https", "SERVER_PORT": "443"}


@pytest.mark.parametrize(
    ("item", "headers", "status"),
    [
        pytest.param(SAVE, {}, "403", id="nothing"),
        pytest.param(SAVE, {"Cookie": f"csrftoken={SECRET}"}, "403", id="cookie-only"),
        pytest.param(SAVE_WITH_HEADER, {}, "403", id="header-only"),
        pytest.param(
            SAVE_WITH_HEADER, {"Cookie": f"csrftoken={SECRET}"}, "201", id="cookie-and-own-header"
        ),
        pytest.param(
            SAVE,
            {"Cookie": f"csrftoken={SECRET}", "X-CSRFToken": SECRET},
            "201",
            id="cookie-and-outer-header",
        ),
        pytest.param(
            SAVE | {"args": {"name": "ada", "csrfmiddlewaretoken": SECRET}},
            {"Cookie": f"csrftoken={SECRET}"},
            "201",
            id="cookie-and-form-field",
        ),
        pytest.param(
            SAVE_WITH_HEADER, {"Cookie": f"csrftoken={'b' * 32}"}, "403", id="another-token"
        ),
        pytest.param(
            SAVE_WITH_HEADER,
            {"Cookie": f"csrftoken={SECRET}", "Origin": "https://evil.example"},
            "403",
            id="foreign-origin",
        ),
        pytest.param(
            SAVE_WITH_HEADER,
            {"Cookie": f"csrftoken={SECRET}", "Origin": "http://localhost"},
            "201",
            id="own-origin",
        ),
    ],
)
def test_csrf(app, item, headers, status, wrap):
    before, entry, after = batch(wrap(app), "/hello", item, "/hello", headers=headers).entries
    assert entry["status_code"] == status
    if status == "201":
        assert entry["body"] == {"saved": "ada"}
    assert (before["status_code"], after["status_code"]) == ("200", "200")


@pytest.mark.parametrize(
    ("referer", "status"),
    [
        pytest.param({}, "403", id="none"),
        pytest.param({"Referer": "https://evil.example/"}, "403", id="foreign"),
        pytest.param({"Referer": "https://localhost/page"}, "201", id="own"),
    ],
)
def test_csrf_referer_of_the_outer_request_counts_under_https(app, referer, status, wrap):
    headers = {"Cookie": f"csrftoken={SECRET}", **referer}
    reply = batch(wrap(app), SAVE_WITH_HEADER, headers=headers, **HTTPS)
    assert reply.entries[0]["status_code"] == status


def test_csrf_token_given_in_one_batch_is_good_in_the_next(app, wrap):
    wrapped = wrap(app)
    reply = batch(wrapped, "/token")
    cookie = only_cookie(reply.headers.getlist("Set-Cookie"))
    assert cookie.startswith("csrftoken=")
    item = SAVE | {"headers": {"X-CSRFToken": reply.entries[0]["body"]["token"]}}
    assert batch(wrapped, item, headers={"Cookie": cookie}).entries[0]["status_code"] == "201"


# --- Hosts -------------------------------------------------------------------------------------


def test_host_is_the_outer_requests(app, wrap):
    with override_settings(ALLOWED_HOSTS=["shop.example"]):
        headers = {"Host": "shop.example"}
        entry = batch(wrap(app), "/host", headers=headers, **HTTPS).entries[0]
    assert entry["body"] == {"url": "https://shop.example/hello", "get_host": "shop.example"}


def test_host_that_is_not_allowed_is_each_members_400(app, wrap):
    reply = batch(wrap(app), "/host", "/hello", headers={"Host": "evil.example"})
    assert [entry["status_code"] for entry in reply.entries] == ["400", "400"]
    alone = ask(app, environ("GET", "/host", headers={"Host": "evil.example"}))
    assert reply.entries[0]["body"] == alone.body.decode()
