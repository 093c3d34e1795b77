"""Dulwich: a server for Git, whose replies are written and binary."""

from __future__ import annotations

from functools import partial

import pytest

from ..support import App
from . import same

COMMIT = "8ed6a8d85a89f70505f94a70afa1ed8dfdd36b64"


def pkt(line: bytes) -> bytes:
    """A line in Git's protocol: its length comes before it."""
    return b"%04x%b" % (len(line) + 4, line)


def service(name: str, body: bytes) -> dict[str, object]:
    headers = {"Content-Type": f"application/x-git-{name}-request"}
    return {"method": "post", "uri": f"/git-{name}", "headers": headers, "body": body}


FETCH = pkt(b"want %b multi_ack thin-pack side-band-64k ofs-delta\n" % COMMIT.encode())
FETCH += b"0000" + pkt(b"done\n")
DELETE = pkt(b"%b %b refs/heads/main\0report-status delete-refs\n" % (COMMIT.encode(), b"0" * 40))
DELETE += b"0000"

REQUESTS = [
    (200, {"uri": "/info/refs?service=git-upload-pack"}),
    (200, {"uri": "/info/refs", "args": {"service": "git-receive-pack"}}),
    (200, {"uri": "/info/refs"}),
    (200, {"uri": f"/objects/{COMMIT[:2]}/{COMMIT[2:]}"}),
    (404, {"uri": f"/objects/00/{'0' * 38}"}),
    (200, service("upload-pack", FETCH)),
    (500, service("upload-pack", b"nonsense")),  # raised once the reply has begun
    (200, service("receive-pack", DELETE)),
    (200, {"uri": "/info/refs?service=git-upload-pack"}),
    (404, {"uri": "/HEAD"}),
    (404, {"method": "head", "uri": "/HEAD"}),
    (404, {"method": "post", "uri": "/HEAD"}),
    (404, {"uri": "/nothing"}),
]


def make_app(dumb: bool) -> App:
    from dulwich.objects import Blob, Commit, Tree
    from dulwich.repo import MemoryRepo
    from dulwich.server import DictBackend
    from dulwich.web import make_wsgi_chain

    repository = MemoryRepo()
    blob = Blob.from_string(b"hello\n" * 100)
    tree = Tree()
    tree.add(b"hello.txt", 0o100644, blob.id)
    commit = Commit()
    commit.tree = tree.id
    commit.author = commit.committer = b"Ada <ada@example.org>"
    commit.author_time = commit.commit_time = 10**9
    commit.author_timezone = commit.commit_timezone = 0
    commit.encoding = b"UTF-8"
    commit.message = "Grüße".encode()
    for thing in (blob, tree, commit):
        repository.object_store.add_object(thing)
    repository.refs[b"refs/heads/main"] = commit.id
    repository.refs.set_symbolic_ref(b"HEAD", b"refs/heads/main")
    return make_wsgi_chain(DictBackend({"/": repository}), dumb=dumb)


@pytest.mark.parametrize("dumb", [False, True], ids=["smart", "dumb"])
def test_dulwich(dumb, threads):
    another_service = (200 if dumb else 403, {"uri": "/info/refs?service=git-other"})
    same(partial(make_app, dumb), [*REQUESTS, another_service], headers={}, threads=threads)
