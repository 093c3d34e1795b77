"""What a module may know: which others it imports, and who has to do with WSGI."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import batchwsgi
from batchwsgi import dialects

PACKAGE = Path(batchwsgi.__file__).parent
DIALECTS = {"dialects.multipart", "dialects.native", "dialects.odata_json"}
"""Those that are dialects: the other modules beside them are what these share, or their parts."""

# What each may import of the package; what is not named here may import nothing.
MAY_IMPORT = {
    "model": "errors",
    "rules": "errors model options",
    "references": "errors model",
    "schedule": "model",
    "cookies": "model",
    "executors": "errors model",
    "wsgi": "errors model rules",
    "entries": "model options dialects.protocol",
    "run": "cookies entries errors executors model options schedule dialects.protocol",
    "dialects": "errors dialects.*",
    "dialects.*": "errors model options references rules dialects.*",
    "discovery": "dialects model rules",
    "middleware": "browser dialects discovery errors executors model options rules run wsgi",
    "": "middleware model options wsgi",
    "__main__": "browser demo middleware wsgi",
    # What compares a member with the same request alone shares no code with what sends members.
    "testing": "dialects middleware model options wsgi "
    "testing.calls testing.comparison testing.items testing.replies testing.runs",
    "testing.calls": "model",
    "testing.comparison": "model testing.calls testing.items testing.replies testing.runs",
    "testing.items": "model",
    "testing.replies": "model testing.calls testing.items",
    "testing.runs": "model testing.calls testing.cookies testing.items testing.replies",
}


def sources() -> dict[str, str]:
    """The package's modules by name, without the package's own."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        .removesuffix("__init__")
        .rstrip("."): path.read_text()
        for path in PACKAGE.rglob("*.py")
    }


SOURCES = sources()


def imported(name: str) -> Iterator[str]:
    """The modules of the package that the one of that name imports."""
    for node in ast.walk(ast.parse(SOURCES[name])):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level and not module:
                yield from (f"dialects.{alias.name}" for alias in node.names)
                continue
            if node.level:
                module = f"dialects.{module}"
            elif module == "batchwsgi":
                yield from (alias.name for alias in node.names if alias.name in SOURCES)
                continue
            elif not module.startswith("batchwsgi."):
                continue
            yield module.removeprefix("batchwsgi.")
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("batchwsgi") for alias in node.names)


def test_all_modules_are_found():
    assert {"", "wsgi", "dialects", "dialects.native"} <= SOURCES.keys()
    assert set(imported("run")) >= {"executors", "schedule"}
    assert set(imported("dialects.native")) >= {"dialects.media", "errors"}


@pytest.mark.parametrize("name", SOURCES)
def test_imports_go_one_way(name):
    wildcard = re.sub(r"(?<=^dialects\.).+", "*", name)
    allowed = MAY_IMPORT.get(name, MAY_IMPORT.get(wildcard, "")).split()
    for module in imported(name):
        assert module in allowed or re.sub(r"(?<=^dialects\.).+", "*", module) in allowed


def test_there_is_no_circle():
    TopologicalSorter({name: set(imported(name)) for name in SOURCES}).prepare()


def test_no_dialect_knows_another():
    assert {getattr(dialects, name).__module__ for name in dialects.__all__} == {
        "batchwsgi.dialects.protocol",
        *(f"batchwsgi.{name}" for name in DIALECTS),
    }
    for name in SOURCES:
        if name.startswith("dialects.") and name != "dialects":
            assert not DIALECTS.intersection(imported(name)) - {name}


def test_who_knows_wsgi():
    """`environ` stands only in these modules, and nobody uses what is for tests."""
    knows = {name for name, text in SOURCES.items() if re.search(r"\benviron\b", text)}
    for_tests = {name for name in SOURCES if name.partition(".")[0] == "testing"}
    assert knows <= {"wsgi", "middleware", "browser", "__main__"} | for_tests
    assert {name for name, text in SOURCES.items() if "werkzeug.test" in text} <= for_tests
    for name in SOURCES.keys() - for_tests:
        assert for_tests.isdisjoint(imported(name))
