"""The description of the API for programs."""

import json

from openapi_spec_validator import validate

from homeport.server.api.openapi import document
from homeport.server.api.operations import OPERATIONS
from tests.server.api.world import World


def test_it_is_valid() -> None:
    validate(document())


def test_it_has_every_operation_once() -> None:
    found = [
        operation["operationId"] for operations in document()["paths"].values() for operation in operations.values()
    ]
    assert sorted(found) == sorted(operation.name for operation in OPERATIONS)
    assert len(set(found)) == len(found)


def test_parameters_are_described_with_their_bounds() -> None:
    paths = document()["paths"]
    described = {each["name"]: each for each in paths["/api/v1/jobs"]["get"]["parameters"]}
    assert described["limit"]["schema"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 50}
    assert described["state"]["schema"]["enum"] == ["waiting", "running", "ended"]
    assert not any(each["required"] for each in described.values())
    (name,) = paths["/api/v1/targets/{name}/test"]["post"]["parameters"]
    assert (name["in"], name["required"]) == ("path", True)


def test_objects_are_closed_and_complete() -> None:
    """So a client in a strict language can be made of it, and the tests here see a field that is not described."""
    for name, schema in document()["components"]["schemas"].items():
        if schema["type"] == "object":
            assert schema["additionalProperties"] is False, name
            if name not in {"Nothing", "RunRequest"}:
                assert schema["required"] == list(schema["properties"]), name


async def test_anybody_may_read_it(world: World) -> None:
    answer = await world.get("/api/v1/openapi.json", who="anonymous")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json == json.loads(json.dumps(document()))
    assert (await world.ask("HEAD", "/api/v1/openapi.json", who="anonymous")).body == b""
    assert (await world.ask("POST", "/api/v1/openapi.json", who="anonymous")).headers["allow"] == "GET, HEAD"
