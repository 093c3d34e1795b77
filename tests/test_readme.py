"""Every snippet of the README and of the other pages is run."""

from __future__ import annotations

import json
import re
import shlex
import types
from importlib import resources
from os.path import normpath
from pathlib import Path

import httpx
import pytest

from batchwsgi import BatchMiddleware, Limits, demo
from batchwsgi.dialects import HTTPMultipart, ODataJSON
from batchwsgi.testing import post_batch

from .support import ask, batch, environ, post

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DIALECTS = resources.files("batchwsgi").joinpath("dialects", "README.md").read_text()
PLACES = (ROOT / "docs" / "places.md").read_text()
LOGS = (ROOT / "docs" / "logs.md").read_text()
PAGES = {"": README, "Dialects, ": DIALECTS, "Places, ": PLACES, "Logs, ": LOGS}
FOLDERS = {
    "": Path(),
    "Dialects, ": Path("batchwsgi/dialects"),
    "Places, ": Path("docs"),
    "Logs, ": Path("docs"),
}


def snippets():
    """The fenced blocks, each by its page, its heading and a number: `Dialects, References 1`."""
    found = {}
    for prefix, page in PAGES.items():
        heading = ""
        for title, language, block in re.findall(
            r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
        ):
            if title:
                heading = prefix + title
            else:
                count = sum(name.rpartition(" ")[0] == heading for name in found)
                found[f"{heading} {count + 1}"] = language, block
    return found


SNIPPETS = snippets()


def code(name):
    """The source of that snippet."""
    return SNIPPETS[name][1]


def statuses(reply):
    return [entry["status_code"] for entry in reply.entries]


def run(name, **given):
    """The names that a Python snippet defines, which may use those that are given."""
    module = types.ModuleType("readme_snippet")
    module.__dict__.update(given)
    exec(compile(code(name), f"README.md, {name}", "exec"), module.__dict__)
    return module


def test_every_snippet_is_run():
    """Each name stands in a test of this module or of `test_logs`, by which it is run."""
    tests = Path(__file__).read_text() + Path(__file__).with_name("test_logs.py").read_text()
    assert SNIPPETS
    assert [name for name in SNIPPETS if f'"{name}"' not in tests] == []


def test_commands():
    """They are run by people and by `.ci/run`; here their parts are looked at."""
    install = "python3 -m venv .venv && .venv/bin/pip install "
    assert code("Try it 1") == install + ". && .venv/bin/python -m batchwsgi\n"
    assert code("Development 1") == install + "-e '.[test]' && .venv/bin/python -m pytest\n"
    ci = (ROOT / ".ci" / "run").read_text()
    assert "-e '.[test]'" in ci
    assert shlex.split(code("Development 1"))[-2:] == ["-m", "pytest"]
    assert ".ci/venv/bin/python -m pytest" in ci


def test_quickstart():
    app = run("Quickstart 1").app
    words = shlex.split(code("Quickstart 2"))
    assert words[:4] == [
        "curl",
        "http://127.0.0.1:8000/batch",
        "-H",
        "Content-Type: application/json",
    ]
    assert words[4] == "-d"
    reply = post(app, words[5].encode())
    answered, shown = (
        re.sub(r"\n *", "", text) for text in (reply.body.decode(), code("Quickstart 3"))
    )
    assert answered == shown


def test_django():
    from .frameworks import django_app

    django_app.make_app()
    application = run("Elsewhere 1").application
    assert isinstance(application, BatchMiddleware)
    assert batch(application, "/nothing").entries[0]["status_code"] == "404"


def test_bottle():
    app = run("Elsewhere 2").app
    assert batch(app, "/hello").entries[0]["body"] == {"hello": "world"}


def test_gunicorn():
    worker = types.SimpleNamespace(wsgi=demo.app)
    run("Elsewhere 3").post_worker_init(worker)
    assert batch(worker.wsgi, "/about").entries[0]["status_code"] == "200"


def test_view():
    app = run("A sub-request inside a view 1").app
    client = app.test_client()
    document = {"requests": [{"method": "get", "uri": "/user/~me"}]}
    assert client.post("/app/batch", json=document).status_code == 401
    with client.session_transaction() as session:
        session["user"] = "ada"
    assert client.post("/app/batch", json=document).json == {
        "responses": [{"status_code": "200", "body": {"name": "ada"}}]
    }


def test_format():
    app = BatchMiddleware(demo.Request.application(demo.Demo().respond))
    token = {"Authorization": f"Bearer {demo.TOKEN}"}
    reply = post(app, code("Dialects, Request and reply 1").encode(), headers=token)
    assert reply.json() == json.loads(code("Dialects, Request and reply 2"))
    bad = batch(app, "/", {"uri": "x", "headers": {"Host": "h"}})
    assert bad.json() == json.loads(code("Dialects, Request and reply 3"))


@pytest.mark.parametrize("name", ["The format 1", "Dialects, References 1"])
def test_references(name):
    app = BatchMiddleware(demo.Request.application(demo.Demo().respond))
    entries = post(app, code(name).encode()).entries
    assert [entry["status_code"] for entry in entries] == ["200", "201", "200", "200"]
    order = {"number": 1, "user": "grace", "sku": "A1", "n": 2}
    assert [entry["body"] for entry in entries[1:]] == [order, order, [order]]


def test_transactions():
    """These are the files that the tests of real databases run."""
    recipes = ROOT / "tests" / "databases"
    assert code("Django 1") == (recipes / "recipe_django.py").read_text()
    assert code("SQLAlchemy 1") == (recipes / "recipe_sqlalchemy.py").read_text()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Places, Sentry 1", "recipe_sentry.py"),
        ("Places, OpenTelemetry 1", "recipe_opentelemetry.py"),
        ("Places, CORS 1", "recipe_cors.py"),
        ("Places, Compression and streams behind nginx 1", "recipe_nginx.conf"),
        ("Places, An ASGI application 1", "recipe_asgi.py"),
        ("Places, An ASGI application 2", "recipe_asgi_gunicorn.py"),
        ("Places, A gateway to several services 1", "recipe_gateway.py"),
    ],
)
def test_places(name, file):
    """These are the files that the tests of places run, with the real neighbours."""
    assert code(name) == (ROOT / "tests" / "places" / file).read_text()


def test_path_rules():
    app = run("Security 1", app=demo.app).app
    assert statuses(batch(app, "/about", "/admin/users")) == ["200", "403"]


def test_rate_limit():
    app = run("Security 2", app=demo.app).app
    answered = [status for _ in range(4) for status in statuses(batch(app, *["/about"] * 20))]
    assert answered == ["200"] * 60 + ["429"] * 20
    assert batch(app, "/about").entries[0]["headers"]["Retry-After"].isdigit()


def test_flask_limiter():
    app = run("Flask-Limiter 1").app
    assert statuses(batch(app, *["/report"] * 7)) == ["200"] * 5 + ["429"] * 2


def test_django_permissions():
    from django.core.exceptions import PermissionDenied

    middleware = run("Django's permissions 1").staff_only_in_batches(lambda request: "answered")

    def ask(path, in_batch, is_staff):
        return middleware(
            types.SimpleNamespace(
                META={"batchwsgi.request": None} if in_batch else {},
                path_info=path,
                user=types.SimpleNamespace(is_staff=is_staff),
            )
        )

    with pytest.raises(PermissionDenied):
        ask("/admin/", in_batch=True, is_staff=False)
    for allowed in [("/admin/", True, True), ("/admin/", False, False), ("/", True, False)]:
        assert ask(*allowed) == "answered"


def test_options_and_limits():
    table = README[README.index("## Options and limits") : README.index("## Transactions")]
    signature = BatchMiddleware.__init__.__kwdefaults__
    assert set(signature) | {"path"} == set(re.findall(r"^\| `(\w+)` \| [`(]", table, re.MULTILINE))
    named = re.findall(r"`((?:max_)\w+|deadline)`", table)
    assert sorted(named) == sorted(Limits.__dataclass_fields__)
    for text in ("20 |", "1 MiB |", "32, 100", "4094, 50, 8190", "1 MiB, 8 MiB", "20 s"):
        assert text in table


def test_what_an_endpoint_has():
    app = BatchMiddleware(demo.app, member_headers=["X-Ms-*"])
    reply = ask(app, environ("OPTIONS", "/batch"))
    assert reply.json() == json.loads(code("Dialects, What an endpoint has 1"))


def test_dialects_by_name():
    app = run("Dialects, The formats of a batch 1", app=demo.app).app
    assert [type(dialect).__name__ for dialect in app._dialects] == ["HTTPMultipart"]


def test_odata_json():
    """The first request fails, and with it what depends on it."""

    def users(environ, start_response):
        start_response("404 Not Found", [("Content-Type", "application/problem+json")])
        return [b'{"title": "no such user"}']

    app = BatchMiddleware(users, "/v1.0/$batch", dialects=(ODataJSON(),))
    reply = post(app, code("Dialects, OData and Microsoft Graph JSON 1").encode(), "/v1.0/$batch")
    assert reply.json() == json.loads(code("Dialects, OData and Microsoft Graph JSON 2"))


def test_multipart(monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda size: "BOUNDARY")

    def animals(environ, start_response):
        if environ["REQUEST_METHOD"] == "DELETE":
            start_response("204 No Content", [])
            return []
        start_response("200 OK", [("Content-Type", "application/json")])
        return [b'{"kind": "pony"}']

    app = BatchMiddleware(animals, dialects=(HTTPMultipart(),))
    headers = {"Content-Type": "multipart/mixed; boundary=batch_1"}
    reply = post(app, code("Dialects, Multipart 1").encode(), headers=headers)
    assert reply.body.decode().replace("\r\n", "\n") == code("Dialects, Multipart 2")


def test_in_the_browser():
    """`tests/browser` runs the module in a browser; here its names are looked at."""
    served = BatchMiddleware(demo.app, client=True)
    module = ask(served, environ(path="/batch.js")).body.decode()
    script = code("In the browser 1")
    assert re.search(r"^export (async )?function batching\b", module, re.MULTILINE)
    assert script.startswith('import { batching } from "/batch.js";\n')


def test_httpx():
    with httpx.Client(
        transport=httpx.WSGITransport(BatchMiddleware(demo.app)), base_url="http://localhost"
    ) as client:
        about, nothing = run("In the browser 2").batch(client, "/about", "/nothing")
    assert about == "One round trip instead of twenty.\n"
    assert "404 Not Found" in nothing


def test_testing():
    def create_app():
        return demo.Request.application(demo.Demo().respond)

    def create_forgetful_app():
        """An application that knows nobody in a batch."""
        app = create_app()

        def forgetful(environ, start_response):
            if "batchwsgi.request" in environ:
                environ.pop("HTTP_COOKIE", None)
            return app(environ, start_response)

        return forgetful

    application = BatchMiddleware(create_app())
    tests = run("Testing 1", create_app=create_app, application=application)
    tests.test_my_application_is_the_same_in_a_batch()
    tests.test_the_start_page()
    tests.create_app = create_forgetful_app
    with pytest.raises(AssertionError) as failure:
        tests.test_my_application_is_the_same_in_a_batch()
    assert f"{failure.value}\n" == code("Testing 2")


def test_test_clients_of_frameworks():
    """Django's bypasses `wsgi.py`, Flask's does not bypass `app.wsgi_app`."""
    from django.test import Client
    from flask import Flask

    from .frameworks import django_app

    django_app.make_app()
    application = run("Elsewhere 1").application
    document = {"requests": [{"uri": "/json"}]}
    client = Client(SERVER_NAME="localhost")
    assert client.post("/batch", document, content_type="application/json").status_code == 404
    assert client.get("/json").json() == post_batch(application, document["requests"])[0].json()
    app = Flask(__name__)
    app.wsgi_app = BatchMiddleware(app.wsgi_app)
    app.add_url_rule("/json", view_func=lambda: {"hello": "Ada"})
    reply = app.test_client().post("/batch", json=document)
    assert reply.json["responses"][0]["body"] == {"hello": "Ada"}


def test_a_dialect_of_your_own():
    app = run("Dialects, A dialect of your own 1", app=demo.app).app
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    reply = post(app, b"get=/about&delete=/nothing&GET=/user/~me", headers=headers)
    assert (reply.status, reply.body) == (200, b"200 /about\n404 /nothing\n401 /user/~me\n")
    assert post(app, b"trace=/&get=x", headers=headers).pointers == ["/0", "/1"]
    assert post(app, b"&".join([b"get=/"] * 21), headers=headers).status == 413
    assert post(app, b"", headers=headers).status == 400
    assert post(app, b"{}").status == 415


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Those between the pages and within them; headings become anchors as on GitHub."""
    folder = FOLDERS[page]
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        path, _, anchor = target.partition("#")
        if path.startswith("https:"):
            continue
        if not path:
            headings = re.findall(r"^#+ ([^\n]+)$", PAGES[page], re.MULTILINE)
            anchors = [
                re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings
            ]
            assert anchor in anchors, target
        elif (own := Path(normpath(folder / path))).parts[0] == "batchwsgi":
            assert resources.files("batchwsgi").joinpath(*own.parts[1:]).is_file(), target
        else:
            assert (ROOT / own).exists(), target
