"""The package as it is without msgspec, and as it is with it, side by side in one process.

Whether msgspec is used is decided when the package is imported. So it is imported twice, once with
msgspec out of reach; each copy keeps to its own modules.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType


def _imported() -> ModuleType:
    """A new copy of the package, which is then forgotten by the import system."""
    package = importlib.import_module("batchwsgi")
    for name in [name for name in sys.modules if name.partition(".")[0] == "batchwsgi"]:
        del sys.modules[name]
    return package


def copies() -> dict[str, ModuleType]:
    """The package by the name of its row in the tables; the second only if it makes a difference.

    To be called before anything else imports msgspec: that is how its use is noticed.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "batchwsgi"]:
        del sys.modules[name]
    sys.modules["msgspec"] = None  # importing it then fails
    try:
        found = {"batchwsgi": _imported()}
    finally:
        del sys.modules["msgspec"]
    with_msgspec = _imported()
    if "msgspec" in sys.modules:
        found["batchwsgi with msgspec"] = with_msgspec
    return found
