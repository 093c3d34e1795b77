"""Kinto: JSON records over HTTP, on Pyramid. It has a batch endpoint of its own."""

from __future__ import annotations

import re

from ..frameworks import webob
from ..support import App
from . import basic, same

assert webob  # Pyramid's; there it is imported without its warning

SETTINGS = {
    "kinto.storage_backend": "kinto.core.storage.memory",
    "kinto.permission_backend": "kinto.core.permission.memory",
    "kinto.cache_backend": "kinto.core.cache.memory",
    "kinto.userid_hmac_secret": "secret",
    "kinto.http_scheme": "https",
    "kinto.includes": "kinto.plugins.default_bucket",
    "kinto.bucket_create_principals": "system.Authenticated",
    "multiauth.policies": "basicauth",
}

ORDERS = "/v1/buckets/shop/collections/orders"
RECORD = f"{ORDERS}/records/r1"
REQUESTS = [
    (307, {"uri": "/"}),
    (307, {"uri": "/v1?x=%C3%A9"}),
    (200, {"uri": "/v1/"}),
    (404, {"uri": "/v1/nothing"}),
    (201, {"method": "put", "uri": "/v1/buckets/shop", "body": {"data": {"n": 1}}}),
    (201, {"method": "put", "uri": ORDERS, "body": {"permissions": {"read": ["system.Everyone"]}}}),
    (201, {"method": "put", "uri": RECORD, "body": {"data": {"sku": "A1", "name": "é三"}}}),
    (412, {"method": "put", "uri": RECORD, "body": {}, "headers": {"If-None-Match": "*"}}),
    (412, {"method": "put", "uri": RECORD, "body": {}, "headers": {"If-Match": '"1"'}}),
    (200, {"method": "patch", "uri": RECORD, "body": {"data": {"n": 2}}}),
    (
        200,
        {
            "method": "patch",
            "uri": RECORD,
            "headers": {"Content-Type": "application/json-patch+json"},
            "body": [{"op": "replace", "path": "/data/n", "value": 3}],
        },
    ),
    (200, {"uri": f"{ORDERS}/records?_sort=-last_modified&sku=A1"}),
    (200, {"uri": f"{ORDERS}/records", "args": {"_limit": 1, "_fields": "sku"}}),
    (200, {"method": "head", "uri": f"{ORDERS}/records"}),
    (200, {"uri": RECORD, "headers": {"If-None-Match": '"1"'}}),
    (200, {"uri": RECORD, "headers": basic("bob", "pw")}),
    (403, {"method": "put", "uri": RECORD, "body": {"data": {}}, "headers": basic("bob", "pw")}),
    (401, {"method": "delete", "uri": RECORD, "headers": {"Authorization": "Bearer no"}}),
    (405, {"method": "post", "uri": RECORD, "body": 1}),
    (400, {"method": "post", "uri": f"{ORDERS}/records", "body": ["not an object"]}),
    (415, {"method": "post", "uri": f"{ORDERS}/records", "body": b"\x89PNG"}),
    (
        200,
        {
            "method": "post",
            "uri": "/v1/batch",
            "body": {"requests": [{"path": RECORD}, {"path": "/v1/nothing"}]},
        },
    ),
    (200, {"uri": "/v1/buckets/default/collections/own/records"}),
    (200, {"method": "delete", "uri": RECORD}),
    (404, {"uri": RECORD}),
    (200, {"method": "delete", "uri": "/v1/buckets/shop"}),
    (200, {"uri": "/v1/__heartbeat__"}),
]


def make_app() -> App:
    import kinto

    return kinto.main({}, **SETTINGS)


def without_times(body: bytes) -> bytes:
    body = re.sub(rb'"last_modified":\d+|\\?"\d{13}\\?"', b"<time>", body)
    return re.sub(rb"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", b"<date>", body)


def test_kinto(threads):
    same(
        make_app,
        REQUESTS,
        headers=basic("ada", "pw"),
        threads=threads,
        ignore_headers=["ETag", "Last-Modified", "Expires"],
        normalize=without_times,
    )
