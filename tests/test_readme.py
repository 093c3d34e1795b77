"""Every snippet of the README is run."""

from __future__ import annotations

import json
import re
import shlex
import types
from pathlib import Path

import pytest

from batchwsgi import BatchMiddleware, Limits, demo

from .support import batch, post

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def snippets():
    """The fenced blocks, each by its heading and a number: `Flask 1`."""
    found = {}
    heading = ""
    for title, language, block in re.findall(
        r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL
    ):
        if title:
            heading = title
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
    """Each name stands in a test of this module, by which it is run."""
    tests = Path(__file__).read_text()
    assert SNIPPETS
    assert [name for name in SNIPPETS if f'"{name}"' not in tests] == []


def test_commands():
    """They are run by people and by `.ci/run`; here their parts are looked at."""
    install = "python3 -m venv .venv && .venv/bin/pip install "
    assert code("Try it 1") == install + ". && .venv/bin/python -m batchwsgi\n"
    assert code("Try it 2") == install + "-e '.[test]' && .venv/bin/python -m pytest\n"
    ci = (ROOT / ".ci" / "run").read_text()
    assert "-e '.[test]'" in ci
    assert shlex.split(code("Try it 2"))[-2:] == ["-m", "pytest"]
    assert ".ci/venv/bin/python -m pytest" in ci


def test_flask():
    app = run("Flask 1").app
    assert batch(app, "/hello").entries[0]["body"] == {"hello": "world"}


def test_django():
    from .frameworks import django_app

    django_app.make_app()
    application = run("Django 1").application
    assert isinstance(application, BatchMiddleware)
    assert batch(application, "/nothing").entries[0]["status_code"] == "404"


def test_bottle():
    app = run("Bottle 1").app
    assert batch(app, "/hello").entries[0]["body"] == {"hello": "world"}


def test_gunicorn():
    worker = types.SimpleNamespace(wsgi=demo.app)
    run("gunicorn 1").post_worker_init(worker)
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
    reply = post(app, code("The format 1").encode(), headers=token)
    assert reply.json() == json.loads(code("The format 2"))
    bad = batch(app, "/", {"uri": "x", "headers": {"Host": "h"}})
    assert bad.json() == json.loads(code("The format 3"))


def test_references():
    app = BatchMiddleware(demo.Request.application(demo.Demo().respond))
    entries = post(app, code("References 1").encode()).entries
    assert [entry["status_code"] for entry in entries] == ["200", "201", "200", "200"]
    order = {"number": 1, "user": "grace", "sku": "A1", "n": 2}
    assert [entry["body"] for entry in entries[1:]] == [order, order, [order]]


def test_transactions():
    """These are the files that the tests of real databases run."""
    recipes = ROOT / "tests" / "databases"
    assert code("Django 2") == (recipes / "recipe_django.py").read_text()
    assert code("SQLAlchemy 1") == (recipes / "recipe_sqlalchemy.py").read_text()


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
