"""The application that the clients talk to: four services over one table of a SQLite file.

/odata    OData 4: Employees, Employees(1), Employees(1)/Reports
/sap      OData 2: the same, with what its clients expect around it, and $metadata
/v1.0     like Microsoft Graph: me, me/photo/$value, me/note, users, users/1, users/1/Reports
/farm/v1  like Google's: animals, animals/1, animals/1/Reports

Each record has a number, a name, which is nobody else's, a note, and the number of a boss, who has
to be there when the transaction is committed. `DATABASE_FILE` names the file. Each request that
arrives, whether in a batch or not, is a line of the server's log.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from batchwsgi import BatchMiddleware
from batchwsgi.dialects import HTTPMultipart, ODataJSON, ODataMultipart

from . import PNG

Environ = dict[str, Any]
Record = dict[str, Any]

COLUMNS = ("id", "name", "note", "boss")

METADATA = """\
<?xml version="1.0" encoding="utf-8"?>
<edmx:Edmx Version="1.0" xmlns:edmx="http://schemas.microsoft.com/ado/2007/06/edmx"
    xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata"
    xmlns:sap="http://www.sap.com/Protocols/SAPData">
  <edmx:DataServices m:DataServiceVersion="2.0">
    <Schema Namespace="STAFF" xmlns="http://schemas.microsoft.com/ado/2008/09/edm">
      <EntityType Name="Employee">
        <Key><PropertyRef Name="Id"/></Key>
        <Property Name="Id" Type="Edm.Int32" Nullable="false"/>
        <Property Name="Name" Type="Edm.String" Nullable="false"/>
        <Property Name="Note" Type="Edm.String" Nullable="true"/>
        <Property Name="Boss" Type="Edm.Int32" Nullable="true"/>
        <NavigationProperty Name="Reports" Relationship="STAFF.Reporting"
            FromRole="Boss" ToRole="Report"/>
      </EntityType>
      <Association Name="Reporting">
        <End Type="STAFF.Employee" Multiplicity="1" Role="Boss"/>
        <End Type="STAFF.Employee" Multiplicity="*" Role="Report"/>
      </Association>
      <EntityContainer Name="Container" m:IsDefaultEntityContainer="true">
        <EntitySet Name="Employees" EntityType="STAFF.Employee"/>
        <AssociationSet Name="ReportingSet" Association="STAFF.Reporting">
          <End EntitySet="Employees" Role="Boss"/>
          <End EntitySet="Employees" Role="Report"/>
        </AssociationSet>
      </EntityContainer>
    </Schema>
  </edmx:DataServices>
</edmx:Edmx>
"""


# --- The database ------------------------------------------------------------------------------

kept: ContextVar[sqlite3.Connection | None] = ContextVar("kept", default=None)


@contextmanager
def transaction() -> Iterator[sqlite3.Connection]:
    """A transaction on a connection of its own, which all requests inside it share."""
    with closing(sqlite3.connect(os.environ["DATABASE_FILE"], isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        token = kept.set(connection)
        try:
            yield connection
            connection.execute("COMMIT")
        finally:
            kept.reset(token)  # what was not committed is undone when the connection is closed


@contextmanager
def savepoint() -> Iterator[sqlite3.Connection]:
    """What one request does: all or nothing; in the batch's transaction where there is one."""
    connection = kept.get()
    if connection is None:
        with transaction() as connection:
            yield connection
        return
    connection.execute("SAVEPOINT request")
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK TO request")
        raise
    finally:
        connection.execute("RELEASE request")


# --- The services ------------------------------------------------------------------------------


class Failure(Exception):
    """A request that is answered with an error: its status and what it says."""


class Service(NamedTuple):
    """How a service names things, and what it wraps around them."""

    root: str
    collection: str
    key: str
    """What follows the collection in the path of one record."""
    names: tuple[str, ...]
    """What it calls the columns."""
    one: Callable[[Record], Any]
    many: Callable[[list[Record]], Any]
    message: Callable[[str], Any] = str
    returns: bool = False
    """An update is answered with the record, not with 204."""


def _plain(record: Record) -> Record:
    return record


def _value(records: list[Record]) -> Any:
    return {"value": records}


STAFF = ("Id", "Name", "Note", "Boss")
SERVICES = (
    Service("/odata", "Employees", "(%d)", STAFF, _plain, _value),
    Service(
        "/sap",
        "Employees",
        "(%d)",
        STAFF,
        one=lambda record: {"d": record},
        many=lambda records: {"d": {"results": records}},
        message=lambda message: {"lang": "en", "value": message},
    ),
    Service("/v1.0", "users", "/%d", ("id", "displayName", "note", "boss"), _plain, _value),
    Service(
        "/farm/v1",
        "animals",
        "/%d",
        COLUMNS,
        _plain,
        many=lambda records: {"items": records},
        returns=True,
    ),
)


def select(db: sqlite3.Connection, service: Service, where: str, *values: Any) -> list[Record]:
    """The records for which `where` holds, as the service names things."""
    rows = db.execute(f"SELECT {', '.join(COLUMNS)} FROM record WHERE {where} ORDER BY id", values)
    return [dict(zip(service.names, row, strict=True)) for row in rows]


def one(db: sqlite3.Connection, service: Service, number: int) -> Record:
    """The record of that number."""
    found = select(db, service, "id = ?", number)
    if not found:
        raise Failure("404 Not Found", f"There is no record {number}.")
    return found[0]


def columns(service: Service, document: Any) -> Record:
    """What a document sets, by column."""
    given = dict(zip(service.names, COLUMNS, strict=True))
    if not isinstance(document, dict) or document.keys() - given.keys():
        raise Failure("400 Bad Request", f"Not a record: {document!r}")
    return {given[name]: value for name, value in document.items()}


def write(db: sqlite3.Connection, statement: str, values: Iterable[Any]) -> sqlite3.Cursor:
    try:
        return db.execute(statement, tuple(values))
    except sqlite3.IntegrityError as error:
        raise Failure("409 Conflict", str(error)) from None


def filtered(environ: Environ) -> tuple[str, list[Any]]:
    """The condition that the query asks for: `$filter=Name eq 'Ada'`, as OData has it."""
    query = parse_qs(environ.get("QUERY_STRING", ""))
    if "$filter" not in query:
        return "true", []
    match = re.fullmatch(r"Name eq '(.*)'", query["$filter"][0])
    if match is None:
        raise Failure("400 Bad Request", f"Not a filter: {query['$filter'][0]}")
    return "name = ?", [match[1].replace("''", "'")]


Answer = tuple[str, dict[str, str], bytes]


def as_json(value: Any, status: str = "200 OK", **headers: str) -> Answer:
    body = json.dumps(value, ensure_ascii=False).encode()
    return status, {"Content-Type": "application/json", **headers}, body


def handled(environ: Environ, service: Service, db: sqlite3.Connection) -> Answer:
    """What the service answers."""
    if environ.get("HTTP_AUTHORIZATION") == "Bearer stale":
        raise Failure("401 Unauthorized", "The token is stale.")
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(service.root + "/")
    path = re.sub("^me(?=/|$)", "users/1", path) if service.root == "/v1.0" else path
    document = None
    if method in ("POST", "PUT", "PATCH", "MERGE"):
        if environ.get("CONTENT_TYPE", "").partition(";")[0] == "application/json":
            document = json.load(environ["wsgi.input"])
        else:
            document = environ["wsgi.input"].read()
    if not path:
        return as_json({}, **{"X-CSRF-Token": "a token"})
    if path == "$metadata":
        return "200 OK", {"Content-Type": "application/xml"}, METADATA.encode()
    if path == "users/1/photo/$value":
        if method == "PUT":
            assert (environ["CONTENT_TYPE"], document) == ("image/png", PNG)
            return "204 No Content", {}, b""
        return "200 OK", {"Content-Type": "image/png"}, PNG
    key = re.escape(service.key).replace("%d", "([0-9]+)")
    match = re.fullmatch(f"{service.collection}(?:{key}(/Reports)?)?", path)
    if match is None:
        raise Failure("404 Not Found", f"There is no {environ['PATH_INFO']}.")
    number = int(match[1] or 0)
    if match[1] and not match[2]:
        record = one(db, service, number)
        if method == "GET":
            return as_json(service.one(record))
        if method == "DELETE":
            write(db, "DELETE FROM record WHERE id = ?", [number])
            return "204 No Content", {}, b""
        given = columns(service, document)
        sets = ", ".join(f"{column} = ?" for column in given)
        write(db, f"UPDATE record SET {sets} WHERE id = ?", [*given.values(), number])
        if service.returns:
            return as_json(service.one(one(db, service, number)))
        return "204 No Content", {}, b""
    if method == "GET":
        where, values = ("boss = ?", [number]) if match[2] else filtered(environ)
        return as_json(service.many(select(db, service, where, *values)))
    given = columns(service, document)
    if match[2]:
        given["boss"] = number
    places = ", ".join("?" * len(given))
    row = write(
        db, f"INSERT INTO record ({', '.join(given)}) VALUES ({places})", given.values()
    ).lastrowid
    location = f"{service.root}/{service.collection}{service.key % row}"
    host = f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}"
    made = service.one(one(db, service, row))
    return as_json(made, "201 Created", Location=f"{host}{environ['SCRIPT_NAME']}{location}")


def app(environ: Environ, start_response: Any) -> Iterable[bytes]:
    """The services, without an endpoint for batches."""
    path = environ["PATH_INFO"]
    where = "in a batch" if "batchwsgi.request" in environ else "alone"
    print(environ["REQUEST_METHOD"], path, where, flush=True)
    for service in SERVICES:
        if path.startswith(f"{service.root}/"):
            break
    else:
        service = SERVICES[0]
    try:
        with savepoint() as db:
            status, headers, body = handled(environ, service, db)
    except sqlite3.IntegrityError as error:  # at its own commit
        status, headers, body = as_json(_error(service, str(error)), "409 Conflict")
    except Failure as failure:
        status, message = failure.args
        status, headers, body = as_json(_error(service, message), status)
    start_response(status, [*headers.items(), ("Content-Length", str(len(body)))])
    return [body]


def _error(service: Service, message: str) -> Any:
    return {"error": {"code": "Refused", "message": service.message(message)}}


# --- The endpoints -----------------------------------------------------------------------------

application = BatchMiddleware(
    app,
    "/odata/$batch",
    dialects=(ODataJSON(), ODataMultipart()),
    transaction=transaction,
)
# OData 2: clients of SAP's expect 202, the status of that version, and send its headers.
application = BatchMiddleware(
    application,
    "/sap/$batch",
    dialects=(ODataMultipart(status=202),),
    member_headers=("Sap-*",),
    transaction=transaction,
)
application = BatchMiddleware(
    application,
    "/v1.0/$batch",
    dialects=(ODataJSON(),),
    member_headers=("ConsistencyLevel", "client-request-id", "SdkVersion"),
    transaction=transaction,
)
application = BatchMiddleware(
    application,
    "/batch/farm/v1",
    dialects=(HTTPMultipart(),),
    member_headers=("X-Goog-*",),
)
