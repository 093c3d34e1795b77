"""The page of the README, run in a browser."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_page_of_the_readme(page):
    (block,) = re.findall(r"^```js\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    first, script = block.split("\n", 1)
    assert first == 'import { batching } from "/batch.js";'
    mount = page.site.server.mount
    script = script.replace('fetch("/', f'fetch("{mount}/')
    found = page.run(f"{script}\nreturn [me, orders, order].map((one) => [one.status, one.url]);")
    assert [url.removeprefix(page.site.url) for _, url in found] == [
        "/user/~me",
        "/orders?sku=A1",
        "/orders",
    ]
    assert page.site.posted() == 1
    assert page.site.arrived() == [
        "GET /user/~me",
        "GET /orders",
        "POST /orders",
    ]
