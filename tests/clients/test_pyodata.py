"""pyodata, a client of OData 2: batches, and change sets in them."""

from __future__ import annotations

from collections.abc import Iterator

import pyodata
import pytest
import requests
from pyodata.exceptions import HttpError
from pyodata.v2.service import EntityCreateRequest

from .conftest import Services


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def client(services: Services, session: requests.Session):
    """The client, which has read `$metadata`."""
    return pyodata.Client(f"{services.url}/sap/", session)


def employees(client):
    return client.entity_sets.Employees


def test_reads(client, services):
    batch = client.create_batch()
    batch.add_request(employees(client).get_entity(1))
    batch.add_request(employees(client).get_entities().filter("Name eq 'Nobody'"))
    batch.add_request(employees(client).get_entities().filter("Name eq 'Ada'"))
    ada, nobody, [found] = batch.execute()
    assert (ada.Id, ada.Name, ada.Note) == (1, "Ada", "first")
    assert nobody == []
    assert found.Name == "Ada"
    assert services.log()[-3:] == [
        "GET /sap/Employees(1) in a batch",
        "GET /sap/Employees in a batch",
        "GET /sap/Employees in a batch",
    ]


def test_a_read_that_fails(client):
    batch = client.create_batch()
    batch.add_request(employees(client).get_entity(99))
    with pytest.raises(HttpError, match="Entity") as raised:
        batch.execute()
    assert raised.value.response.status_code == 404
    assert raised.value.response.json()["error"]["message"]["value"] == "There is no record 99."


def test_a_change_set_is_committed(client, services):
    batch, changes = client.create_batch(), client.create_changeset()
    changes.add_request(employees(client).create_entity().set(Name="Grace", Note="Größe – 好"))
    changes.add_request(employees(client).create_entity().set(Name="Linus", Boss=1))
    changes.add_request(employees(client).update_entity(1).set(Note="second"))
    changes.add_request(employees(client).update_entity(1, method="PUT").set(Boss=1))
    batch.add_request(changes)
    batch.add_request(employees(client).get_entity(1).nav("Reports").get_entities())
    (grace, linus, patched, put), reports = batch.execute()
    assert (grace.Name, grace.Note) == ("Grace", "Größe – 好")
    assert (linus.Name, linus.Boss) == ("Linus", 1)
    assert (patched, put) == (None, None)
    assert [report.Name for report in reports] == ["Ada", "Linus"]
    assert services.names() == ["Ada", "Grace", "Linus"]
    assert (services.note("Ada"), services.note("Grace")) == ("second", "Größe – 好")


def test_merge_and_delete(client, services):
    services.query("INSERT INTO record (id, name) VALUES (2, 'Grace'), (3, 'Linus')")
    batch, changes = client.create_batch(), client.create_changeset()
    changes.add_request(employees(client).update_entity(2, method="MERGE").set(Note="merged"))
    changes.add_request(employees(client).delete_entity(3))
    batch.add_request(changes)
    assert batch.execute() == [[None, None]]
    assert services.names() == ["Ada", "Grace"]
    assert services.note("Grace") == "merged"


def test_a_change_set_that_fails_is_rolled_back(client, services):
    batch, changes = client.create_batch(), client.create_changeset()
    changes.add_request(employees(client).create_entity().set(Name="Grace"))
    changes.add_request(employees(client).update_entity(1).set(Note="second"))
    changes.add_request(employees(client).create_entity().set(Name="Ada"))
    changes.add_request(employees(client).create_entity().set(Name="Linus"))
    batch.add_request(changes)
    batch.add_request(employees(client).get_entity(1))
    arrived = len(services.log())
    with pytest.raises(HttpError, match="single response received, status code: 409") as raised:
        batch.execute()
    said = raised.value.response.json()["error"]["message"]["value"]
    assert said == "UNIQUE constraint failed: record.name"
    assert services.names() == ["Ada"]
    assert services.note("Ada") == "first"
    assert services.log()[arrived:] == [
        "POST /sap/Employees in a batch",
        "PATCH /sap/Employees(1) in a batch",
        "POST /sap/Employees in a batch",
        "GET /sap/Employees(1) in a batch",  # the failure of a change set stops nothing else
    ]


def test_a_commit_that_fails(client, services):
    batch, changes = client.create_batch(), client.create_changeset()
    changes.add_request(employees(client).create_entity().set(Name="Grace"))
    changes.add_request(employees(client).create_entity().set(Name="Linus", Boss=99))
    batch.add_request(changes)
    with pytest.raises(HttpError, match="single response received, status code: 424"):
        batch.execute()
    assert services.names() == ["Ada"]


def test_one_change_set_fails_and_another_does_not(client, services):
    batch = client.create_batch()
    for names in (["Grace", "Ada"], ["Linus", "Guido"]):
        changes = client.create_changeset()
        for name in names:
            changes.add_request(employees(client).create_entity().set(Name=name))
        batch.add_request(changes)
    with pytest.raises(HttpError, match="status code: 409"):
        batch.execute()
    assert services.names() == ["Ada", "Linus", "Guido"]


def test_a_reference_to_what_was_made(client, services, session):
    """pyodata has no `Content-ID` of its own: it is a header, which it writes into the request."""
    boss = employees(client).create_entity().set(Name="Grace")
    boss.add_headers({"Content-ID": "boss"})
    report = EntityCreateRequest(
        client.url,
        session,
        boss.handler,
        client.schema.entity_set("Employees"),
        last_segment="$boss/Reports",
    ).set(Name="Linus")
    batch, changes = client.create_batch(), client.create_changeset()
    changes.add_request(boss)
    changes.add_request(report)
    batch.add_request(changes)
    [[grace, linus]] = batch.execute()
    assert linus.Boss == grace.Id
    assert services.names() == ["Ada", "Grace", "Linus"]


def test_headers_of_sap(client, services):
    request = employees(client).get_entity(1)
    request.add_headers({"sap-language": "EN", "DataServiceVersion": "2.0"})
    batch = client.create_batch()
    batch.add_request(request)
    assert batch.execute()[0].Name == "Ada"


def test_a_batch_that_is_refused(client, services):
    request = employees(client).create_entity().set(Name="Grace")
    request.add_headers({"X-Unknown": "1"})
    batch, changes = client.create_batch(), client.create_changeset()
    changes.add_request(request)
    batch.add_request(changes)
    with pytest.raises(HttpError, match="failed with status code 400") as raised:
        batch.execute()
    error = raised.value.response.json()["error"]
    assert error["code"] == "400"
    assert "/0/0/headers/X-Unknown" in error["message"]
    assert services.names() == ["Ada"]
