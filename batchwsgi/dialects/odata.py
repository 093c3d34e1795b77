"""What the two OData dialects share (OData 4.01 Part 1): preferences, versions, errors."""

from __future__ import annotations

import re

from batchwsgi.errors import BatchError
from batchwsgi.model import OnFail, OuterRequest

ALLOWED = re.compile(r"odata-.+|(?:max|min)?dataserviceversion|accept-charset")
"""Headers, in lower case, that a member of an OData batch may set beside the usual ones."""

# What stands between commas, and of that what stands before a semicolon, but for quoted strings.
# Every repetition is possessive: blanks alone would be quadratic.
_PREFERENCE = re.compile(r'(?:[^",]++|"(?:[^"\\]++|\\.)*+"?)++')
_WITHOUT_PARAMETERS = re.compile(r'(?:[^";]++|"(?:[^"\\]++|\\.)*+"?)*+')
_CONTINUE = frozenset(["continue-on-error", "odata.continue-on-error"])


def on_fail(outer: OuterRequest) -> OnFail:
    """What `Prefer: continue-on-error` asks for (§8.2.8.3): it goes on unless it says false."""
    for preference in _PREFERENCE.findall(outer.headers.get("Prefer", "")):
        found = _WITHOUT_PARAMETERS.match(preference)
        name, _, value = found[0].partition("=") if found else ("", "", "")
        if name.strip(" \t").lower() in _CONTINUE:  # of several the first counts
            stops = value.strip(' \t"').lower() == "false"
            return OnFail.STOP if stops else OnFail.IGNORE
    return OnFail.IGNORE


def is_named(outer: OuterRequest) -> bool:
    """Whether the request names a version."""
    return "OData-Version" in outer.headers or "OData-MaxVersion" in outer.headers


def version(outer: OuterRequest) -> str:
    """The `OData-Version` of the reply (§8.1.5)."""
    headers = outer.headers
    named = (headers.get("OData-Version"), headers.get("OData-MaxVersion"))
    return "4.01" if "4.01" in named else "4.0"


def refusal(error: BatchError) -> dict[str, object]:
    """The `error` member that OData clients show (OData JSON Format §21.1)."""
    message = error.detail
    if error.faults:
        first = error.faults.listed[0]
        message += f" {first.pointer}: {first.detail}" if first.pointer else f" {first.detail}"
    return {"error": {"code": str(error.status), "message": message}}
