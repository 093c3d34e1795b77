"""No member is ever answered as somebody else, whatever the outer environ carries."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from batchwsgi import Limits

from ..support import App, Environ, ask, batch, environ
from .cherrypy_app import make_app as cherrypy_app
from .parity import FRAMEWORKS
from .webob_app import make_app as webob_app

APPS = FRAMEWORKS | {"webob": webob_app, "cherrypy": cherrypy_app}
MEMBERS = 2000
BATCH = 500

# Keys under which frameworks and middlewares keep what belongs to one request. Those that the
# frameworks at hand really leave behind are collected by `left_behind`.
KEYS = (
    "bottle.app bottle.request bottle.request.body bottle.request.cookies bottle.request.forms "
    "bottle.request.headers bottle.request.json bottle.request.query bottle.request.ext.token "
    "bottle.route route.url_args route.handle webob._body_file webob._parsed_cookies "
    "webob._parsed_post_vars webob._parsed_query_vars webob.adhoc_attrs webob.is_body_readable "
    "werkzeug.request werkzeug.session werkzeug.proxy_fix.orig flask._preserve_context "
    "myproject.token django.session _dont_enforce_csrf_checks CSRF_COOKIE beaker.session "
    "beaker.get_session beaker.cache paste.testing_variables paste.urlvars paste.registry "
    "paste.parsed_querystring paste.cookies repoze.who.identity repoze.who.plugins "
    "wsgiorg.routing_args wsgiorg.routing_args.user falcon.context cherrypy.request remote_user"
).split()


def whoami(name: str) -> dict[str, Any]:
    """A member of a batch that says in three places who it is."""
    return {
        "method": "post",
        "uri": f"/whoami?name={name}",
        "headers": {"Authorization": f"Bearer {name}"},
        "body": {"name": name},
    }


def known(name: str) -> dict[str, str]:
    token = f"Bearer {name}"
    return {"token": token, "cached": token, "query": name, "body": name}


def environ_of(name: str) -> Environ:
    """The same request, sent alone."""
    headers = {"Authorization": f"Bearer {name}", "Content-Type": "application/json"}
    body = json.dumps({"name": name}).encode()
    return environ("POST", f"/whoami?name={name}", body, headers)


def left_behind(app: App, name: str) -> Environ:
    """What `app` has added to the environ of a request once it is answered."""
    request = environ_of(name)
    server_keys = set(request)
    assert ask(app, request).json() == known(name)
    return {key: value for key, value in request.items() if key not in server_keys}


@pytest.fixture(scope="module")
def planted() -> Environ:
    """The caches of mallory's request, by all frameworks, and mallory's name under other keys."""
    caches: Environ = dict.fromkeys(KEYS, "mallory")
    for make_app in APPS.values():
        caches |= left_behind(make_app(), "mallory")
    # Bottle's is one for each thread, and wsgiref.validate wants to show it in another.
    caches["bottle.request"] = "mallory"
    return caches


@pytest.fixture(params=APPS)
def make_app(request: pytest.FixtureRequest) -> Callable[[], App]:
    return APPS[request.param]


@pytest.fixture
def switching() -> Iterator[None]:
    """Let threads take turns a hundred times as often as they do."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(interval / 100)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.parametrize("framework", ["bottle", "webob", "mini", "django"])
def test_a_copied_environ_would_be_answered_as_somebody_else(framework, planted):
    """What the other tests plant does work, where it is let through."""
    reply = ask(APPS[framework](), environ_of("ada") | planted)
    assert reply.json() != known("ada")
    assert b"mallory" in reply.body


def test_no_cache_reaches_a_member(planted, wrap):
    arrived = []

    def app(request, start_response):
        arrived.append(set(request) & set(planted))
        start_response("204 No Content", [])
        return []

    reply = batch(wrap(app), "/", whoami("ada"), **planted)
    assert [entry["status_code"] for entry in reply.entries] == ["204", "204"]
    assert arrived == [set(), set()]


def test_every_member_is_itself(make_app, planted, wrap, switching):
    """2,000 members in batches of 500, all at the same time, with mallory's caches outside."""
    app = wrap(make_app(), limits=Limits(max_requests=BATCH, deadline=60))
    names = [f"user{number}" for number in range(MEMBERS)]
    parts = [names[start : start + BATCH] for start in range(0, MEMBERS, BATCH)]

    def post(part: list[str]) -> list[Any]:
        headers = {"Authorization": "Bearer outer"}
        more = planted | {"wsgi.multithread": True}
        return batch(app, *map(whoami, part), headers=headers, **more).entries

    with ThreadPoolExecutor(len(parts)) as pool:
        entries = [entry for part in pool.map(post, parts) for entry in part]
    assert [entry["body"] for entry in entries] == [known(name) for name in names]
    assert {entry["status_code"] for entry in entries} == {"200"}


def test_inherited_identity_is_the_outer_requests(make_app, planted, wrap):
    """A member that sets no Authorization is who the outer request is."""
    member = {"method": "post", "uri": "/whoami?name=ada", "body": {"name": "ada"}}
    headers = {"Authorization": "Bearer ada"}
    reply = batch(wrap(make_app()), member, whoami("bob"), member, headers=headers, **planted)
    expected = [known("ada"), known("bob"), known("ada")]
    assert [entry["body"] for entry in reply.entries] == expected
