from __future__ import annotations

import pytest
from werkzeug.http import http_date

from batchwsgi import BatchMiddleware, Request
from batchwsgi.cookies import Jar, default_path
from batchwsgi.model import Member, OuterRequest, Problem, Response

from .support import batch

PAST, FUTURE = http_date(0), "Wed, 01 Jan 2200 00:00:00 GMT"


def member(target, *cookies, problem=None):
    made = Member(0, Request("GET", target), {})
    fields = [("set-cookie", cookie) for cookie in cookies]
    made.response = Response(200, "OK", [("Content-Type", "text/plain"), *fields], b"", problem)
    return made


def jar(*members, **outer):
    made = Jar(OuterRequest(**outer), 8190)
    for member in members:
        made.keep([member])
    return made


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/a", "/"),
        ("/a/", "/a"),
        ("/a/b", "/a"),
        ("/a/b/c?d=/e/f", "/a/b"),
        ("/mnt/a", "/mnt"),
        ("/%C3%A9/x", "/%C3%A9"),
        ("/a/b;Domain=example.org;Path=/x/c", "/a"),
        ("/;x/y", "/"),
    ],
)
def test_default_path(target, path):
    assert default_path(target) == path


# --- To the outer reply ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cookie", "shown"),
    [
        ("a=1", "a=1; Path=/mnt/user"),
        ("a=1; Path=/x; HttpOnly", "a=1; Path=/x; HttpOnly"),
        ("a=1; PATH = /x", "a=1; PATH = /x"),
        ("a=1; Path=", "a=1; Path=; Path=/mnt/user"),
        ("a=1; Path=x", "a=1; Path=x; Path=/mnt/user"),
        ("a=1; Path=/x; Path=y", "a=1; Path=/x; Path=y; Path=/mnt/user"),
        ('a="q;Path=/x"', 'a="q;Path=/x"'),
        ("a=1; Secure", "a=1; Secure; Path=/mnt/user"),
        ("novalue", "novalue; Path=/mnt/user"),
    ],
)
def test_path_is_that_of_the_members_own_url(cookie, shown):
    assert jar(member("/user/7?q=/x", cookie), mount="/mnt").promoted() == [shown]


def test_only_the_last_of_the_same_cookie():
    kept = jar(
        member("/", "a=1; Path=/", "b=1; Path=/", "a=2; Path=/x"),
        member("/", "a=3; Path=/; Domain=.Example.org"),
        member("/", "a=4", "a=5; Path=/; Domain=example.org", "A=6; Path=/"),
    )
    assert kept.promoted() == [
        "b=1; Path=/",
        "a=2; Path=/x",
        "a=4; Path=/",
        "a=5; Path=/; Domain=example.org",
        "A=6; Path=/",
    ]


def test_the_cookies_of_a_reply_that_was_cut_off_count():
    kept = jar(member("/", "b=1; Path=/", problem=Problem.TOO_LARGE))
    assert kept.promoted() == ["b=1; Path=/"]


def test_what_was_undone_is_forgotten():
    kept = jar(member("/", "a=1; Path=/"))
    before = kept.cookies()
    kept.keep([member("/", "a=2; Path=/", "b=1; Path=/")])
    kept.restore(before)
    assert kept.promoted() == ["a=1; Path=/"]


# --- To later members --------------------------------------------------------------------------

HEADERS = {
    "nothing set": ([], "/x", None),
    "set": (["a=1"], "/x", "own=0; a=1"),
    "replaces the client's": (["own=1"], "/x", "own=1"),
    "quotes and all": (['a="1 2,3"'], "/x", 'own=0; a="1 2,3"'),
    "empty value": (["a="], "/x", "own=0; a="),
    "equals in the value": (["a=b=c"], "/x", "own=0; a=b=c"),
    "no pair": (["novalue"], "/x", None),
    "no name": (["=value"], "/x", None),
    "path matches": (["a=1; Path=/x"], "/x/y", "own=0; a=1"),
    "path matches exactly": (["a=1; Path=/x"], "/x?q", "own=0; a=1"),
    "path with a slash": (["a=1; Path=/x/"], "/x/y", "own=0; a=1"),
    "path is no prefix of a name": (["a=1; Path=/x"], "/xy", None),
    "path does not match": (["own=1; Path=/z"], "/x", None),
    "longer paths first": (["a=1; Path=/", "b=2; Path=/x"], "/x", "own=0; b=2; a=1"),
    "same name, two paths": (["a=1; Path=/", "a=2; Path=/x"], "/x", "own=0; a=2; a=1"),
    "the last counts": (["a=1", "a=2"], "/x", "own=0; a=2"),
    "domains are one": (["a=1; Domain=b.test", "a=2"], "/x", "own=0; a=2"),
    "deleted by Max-Age": (["own=; Max-Age=0"], "/x", ""),
    "deleted by a negative Max-Age": (["own=; Max-Age=-1"], "/x", ""),
    "deleted by Expires": ([f"own=; Expires={PAST}"], "/x", ""),
    "expires later": ([f"a=1; Expires={FUTURE}"], "/x", "own=0; a=1"),
    "Max-Age wins": ([f"a=1; Max-Age=9; Expires={PAST}"], "/x", "own=0; a=1"),
    "malformed Max-Age": (["a=1; Max-Age=soon"], "/x", "own=0; a=1"),
    "Expires in a year of twenty digits": (
        [f"a=1; Expires=Thu, 01 Jan {'9' * 20} 00:00:00 GMT"],
        "/x",
        "own=0; a=1",
    ),
    "malformed Expires": (["a=1; Expires=soon"], "/x", "own=0; a=1"),
    "set and deleted": (["a=1", "a=; Max-Age=0"], "/x", "own=0"),
    "Secure on http": (["own=1; Secure"], "/x", None),
}


@pytest.mark.parametrize("case", HEADERS)
def test_header(case):
    cookies, target, header = HEADERS[case]
    assert jar(member("/", *cookies), cookie="own=0").header(target) == header


def test_secure_on_https():
    kept = jar(member("/", "a=1; Secure"), cookie="own=0", https=True)
    assert kept.header("/") == "own=0; a=1"


def test_the_mount_is_a_part_of_the_path():
    kept = jar(member("/x/y", "a=1", "b=2; Path=/x", "c=3; Path=/mnt"), mount="/mnt")
    assert kept.header("/x/z") == "a=1; c=3"
    assert kept.header("/y") == "c=3"


def test_the_clients_own_header_stays_as_it_is():
    kept = jar(member("/", "a=1; Path=/x"), cookie=' weird ;; "q=1"; a=0;b')
    assert kept.header("/y") is None
    assert kept.header("/x") == 'weird; "q=1"; b; a=1'


def echo_cookie(request, start_response):
    """Shows the cookies it is sent; sets those in its query."""
    query = request["QUERY_STRING"].replace("%20", " ")
    cookies = [("Set-Cookie", cookie) for cookie in query.split("&") if cookie]
    start_response("200 OK", [("Content-Type", "text/plain"), *cookies])
    return [request.get("HTTP_COOKIE", "none").encode()]


def seen(*items, **more):
    return [entry["body"] for entry in batch(BatchMiddleware(echo_cookie), *items, **more).entries]


def test_later_members_see_what_earlier_ones_set():
    items = [
        "/?a=1;%20Path=/&b=2",
        "/",
        "/?a=;%20Max-Age=0;%20Path=/",
        "/",
        "/?b=;%20Max-Age=0",
        "/",
    ]
    assert seen(*items) == ["none", "a=1; b=2", "a=1; b=2", "b=2", "b=2", "none"]
    assert seen("/?a=1", "/", headers={"Cookie": "a=0; c=3"}) == ["a=0; c=3", "c=3; a=1"]


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        ({}, False),
        ({"wsgi.url_scheme": "https"}, True),
        ({"headers": {"X-Forwarded-Proto": "https"}}, True),
        ({"headers": {"X-Forwarded-Proto": "HTTPS, http"}}, True),
        ({"headers": {"X-Forwarded-Proto": "http, https"}}, False),
    ],
)
def test_secure(more, sent):
    assert seen("/?a=1;Secure", "/", **more) == ["none", "a=1" if sent else "none"]


# --- Side by side -------------------------------------------------------------------------------

GONE = "s=; Path=/; Max-Age=0"
FRESH = "s=2; Path=/"


@pytest.mark.parametrize(
    ("wave", "promoted"),
    [
        ([[GONE], [FRESH]], [GONE]),
        ([[FRESH], [GONE]], [GONE]),
        ([[FRESH], [GONE], [FRESH]], [GONE]),
        ([[GONE, FRESH], [FRESH]], [FRESH]),  # of one member's own the last counts
        ([[FRESH, GONE], [FRESH]], [GONE]),
        ([[GONE, "t=1; Path=/"]], [GONE, "t=1; Path=/"]),
        ([[f"s=; Path=/; Expires={PAST}"], [FRESH]], [f"s=; Path=/; Expires={PAST}"]),
        ([["a=; Path=/; Max-Age=0"], [FRESH]], [FRESH, "a=; Path=/; Max-Age=0"]),
    ],
)
def test_in_a_wave_deletions_count_last(wave, promoted):
    kept = Jar(OuterRequest(), 8190)
    kept.keep([member("/", *cookies) for cookies in wave])
    assert kept.promoted() == promoted


def test_the_deletion_of_a_cookie_leaves_that_of_another_domain():
    """As an application does that once set it for the domain, and now for its own host."""
    old = "s=; Path=/; Domain=.example.org; Max-Age=0"
    for wave in ([[old, FRESH], ["x=1; Path=/"]], [[FRESH, old]]):
        kept = Jar(OuterRequest(cookie="s=1"), 8190)
        kept.keep([member("/", *cookies) for cookies in wave])
        assert "s=2" in kept.header("/").split("; ")
        assert {old, FRESH} <= {*kept.promoted()}


def test_a_cookie_that_no_browser_would_keep_is_not_sent():
    kept = jar(member("/", f"a={'x' * 4096}; Path=/"), cookie="a=own")
    assert kept.header("/") is None
    assert len(kept.promoted()) == 1
    kept = jar(member("/", f"a={'x' * 4095}; Path=/"), cookie="a=own")
    assert len(kept.header("/")) == 4097


def test_all_cookies_together_are_no_longer_than_a_header_may_be():
    kept = jar(*[member("/", f"c{n}={'x' * 3000}; Path=/") for n in range(9)], cookie="own=1")
    assert [pair[:3] for pair in kept.header("/").split("; ")] == ["own", "c0=", "c1="]
    long = f"own={'y' * 9000}"  # which the server let through
    kept = jar(member("/", "c=1; Path=/"), cookie=long)
    assert kept.header("/") == long


def test_a_wave_after_a_deletion_may_set_again():
    kept = jar(member("/", GONE), member("/", FRESH))
    assert kept.promoted() == [FRESH]


# --- Prefixes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cookie",
    [
        "__Secure-a=1; Path=/",
        "__secure-a=1",
        " __Secure-a =1; HttpOnly",
        "__Host-a=1; Path=/",
        "__Host-a=1; Secure",
        "__HOST-a=1; Secure; Path=/x",
        "__Host-a=1; Secure; Path=/; Domain=example.org",
        "__Host-a=1; Secure; Path=/; Path=/x",
    ],
)
def test_a_cookie_that_breaks_the_rule_of_its_prefix_is_not_kept(cookie):
    kept = jar(member("/", cookie), https=True)
    assert kept.promoted() == []
    assert kept.header("/") is None


@pytest.mark.parametrize(
    "cookie",
    [
        "__Secure-a=1; Secure; Path=/",
        "__Secure-a=1; Path=/; SECURE; Domain=example.org",
        "__Host-a=1; Path=/; Secure",
        "__host-a=1; Secure; Path=/; Domain=",
        "__Hosta=1; Path=/",
    ],
)
def test_a_cookie_that_keeps_the_rule_of_its_prefix(cookie):
    kept = jar(member("/", cookie), https=True)
    assert kept.promoted() == [cookie]
    assert kept.header("/") == cookie.partition(";")[0]
