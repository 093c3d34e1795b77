from __future__ import annotations

import pytest

from batchwsgi import Request, Response
from batchwsgi.cookies import default_path, promoted
from batchwsgi.model import Member, Problem


def member(target, *cookies, problem=None):
    made = Member(0, Request("GET", target), {})
    fields = [("set-cookie", cookie) for cookie in cookies]
    made.response = Response(200, "OK", [("Content-Type", "text/plain"), *fields], b"", problem)
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
    ],
)
def test_default_path(target, path):
    assert default_path(target) == path


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
    ],
)
def test_path_is_that_of_the_members_own_url(cookie, shown):
    assert promoted([member("/user/7?q=/x", cookie)], "/mnt") == [shown]


def test_only_the_last_of_the_same_cookie():
    members = [
        member(
            "/", "a=1; Path=/", "b=1; Path=/", "a=2; Path=/x", "a=3; Path=/; Domain=.Example.org"
        ),
        member("/", "a=4", "a=5; Path=/; Domain=example.org", "A=6; Path=/"),
    ]
    assert promoted(members, "") == [
        "b=1; Path=/",
        "a=2; Path=/x",
        "a=4; Path=/",
        "a=5; Path=/; Domain=example.org",
        "A=6; Path=/",
    ]


def test_an_application_error_promotes_none():
    members = [
        member("/", "a=1; Path=/", problem=Problem.APPLICATION_ERROR),
        member("/", "b=1; Path=/", problem=Problem.TOO_LARGE),
        Member(2, Request("GET", "/"), {}),
    ]
    assert promoted(members, "") == ["b=1; Path=/"]
