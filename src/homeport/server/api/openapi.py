"""The description of the API for programs, made of the table of operations. Source: OpenAPI 3.1.1."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from homeport.oci.errors import RegistryError, Unauthorized
from homeport.server.api.errors import NotAdministrator
from homeport.server.api.models import Failed, Nothing
from homeport.server.api.operations import OPERATIONS, PREFIX, Operation

_SCHEMAS: Final = "#/components/schemas/"
_PARAMETER: Final = re.compile(r"\{(\w+)(?::path)?\}")


def document() -> dict[str, Any]:
    """The whole description."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        path = PREFIX + _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.1",
        "info": {
            "title": "Homeport",
            "version": "1",
            "description": "What runs, what happened, who was told, and which secrets can be read.",
        },
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "password": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "A user who is an administrator, with the password or a token.",
                },
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A personal or robot token that may administer.",
                },
            },
        },
        "security": [{"token": []}, {"password": []}],
    }


def _described(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation.name, "summary": operation.summary}
    if operation.parameters.model_fields:
        described["parameters"] = parameters(operation)
    if operation.method == "POST":
        described["requestBody"] = {
            "required": operation.body is not Nothing,
            "content": {"application/json": {"schema": _reference(operation.body)}},
        }
    described["responses"] = {str(operation.status): _success(operation)}
    refused: list[type[RegistryError]] = [Unauthorized, NotAdministrator, *operation.refuses]
    for error in sorted(refused, key=lambda error: error.status):
        described["responses"][str(error.status)] = _failure(error().message)
    described["responses"]["default"] = _failure("Too many requests, a fault of the server, and the like.")
    return described


def parameters(operation: Operation) -> list[dict[str, Any]]:
    """The parameters of path and query, each with its schema."""
    in_path = set(_PARAMETER.findall(operation.path))
    schema = operation.parameters.model_json_schema()
    found = []
    for name, described in schema["properties"].items():
        plain = {key: value for key, value in described.items() if key not in {"description", "title"}}
        found.append(
            {
                "name": name,
                "in": "path" if name in in_path else "query",
                "required": name in in_path,
                "description": described["description"],
                "schema": _without_null(plain),
            }
        )
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is not given is left out; there is no null in a query."""
    if schema.get("default", ...) is None:
        (schema,) = (one for one in schema["anyOf"] if one != {"type": "null"})
    return schema


def _success(operation: Operation) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer is not None:
        content["application/json"] = {"schema": _reference(operation.answer)}
    if operation.lines:
        lines = [_reference(line) for line in operation.lines]
        content["application/jsonl"] = {"schema": lines[0] if len(lines) == 1 else {"oneOf": lines}}
    response: dict[str, Any] = {"description": HTTPStatus(operation.status).phrase, "content": content}
    if operation.lines:
        response["description"] += "; of JSON Lines, the schema is that of one line"
    if operation.name in {"jobs-run", "job-retry"}:
        response["headers"] = {"Location": {"description": "Where the job is.", "schema": {"type": "string"}}}
    return response


def _failure(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _reference(Failed)}}}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _SCHEMAS + model.__name__}


def _schemas() -> dict[str, Any]:
    given = {model for each in OPERATIONS for model in (each.answer, *each.lines) if model is not None}
    modes: list[tuple[type[BaseModel], JsonSchemaMode]] = [
        *((model, "serialization") for model in sorted(given | {Failed}, key=lambda model: model.__name__)),
        *(
            (model, "validation")
            for model in sorted({each.body for each in OPERATIONS}, key=lambda each: each.__name__)
        ),
    ]
    _, schemas = models_json_schema(modes, ref_template=_SCHEMAS + "{model}")
    found: dict[str, Any] = schemas["$defs"]
    return found
