"""One request to the API: who sends it, its parameters and its body, read and checked before a handler sees them.

Holds: what is not known is refused with its name, and no text of the request is repeated at length. Whoever is no
administrator learns nothing but that. Every POST says `application/json`: a browser sends that to a foreign site only
after asking, and nobody here answers yes, so no web page can use the login of whoever looks at it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from homeport.auth.actors import Actor
from homeport.auth.permissions import may_administer
from homeport.events import Origin
from homeport.oci.errors import BodyStalled, ManifestTooLarge, Unauthorized
from homeport.server.api.errors import Invalid, MediaTypeWrong, NotAdministrator, Stalled, TooLarge
from homeport.server.api.services import ApiServices
from homeport.server.http import Request

#: The largest body that is read.
BODY_BYTES_MAX = 64 * 1024
#: How many problems of one request are told, and how much of a name that came with it.
_PROBLEMS_MAX = 5
_NAME_CHARACTERS_MAX = 64

M = TypeVar("M", bound=BaseModel)
Parameters = TypeVar("Parameters", bound=BaseModel)
Body = TypeVar("Body", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call(Generic[Parameters, Body]):
    """A request that may be answered."""

    services: ApiServices
    request: Request
    actor: Actor
    parameters: Parameters
    body: Body

    @property
    def origin(self) -> Origin:
        """Who is to stand in the audit log for what this request changes."""
        return Origin(str(self.actor), self.request.address, self.request.id)


async def administrator(services: ApiServices, request: Request) -> Actor:
    """Who sends the request, if that is an administrator. Raises `Unauthorized`, `NotAdministrator`."""
    actor = await services.logins.authenticate(request.header(b"authorization"), request.address)
    if may_administer(actor):
        return actor
    raise Unauthorized if actor.is_nobody else NotAdministrator


def parameters(model: type[M], request: Request, path: Mapping[str, str]) -> M:
    """The parameters of path and query. Raises `Invalid`."""
    values: dict[str, str] = {}
    for name, given in request.query.items():
        if len(given) > 1:
            raise Invalid(f"the parameter {_shown(name)} is given more than once")
        values[name] = given[0]
    if values.keys() & path.keys():
        raise Invalid(f"no parameter is called {_shown(next(iter(values.keys() & path.keys())))}")
    try:
        return model.model_validate({**values, **path})
    except ValidationError as error:
        raise Invalid(_told(error, model, "parameter")) from None


async def body(model: type[M], request: Request) -> M:
    """The body of a POST; where there is none, an empty object. Raises `Invalid`, `TooLarge`, `MediaTypeWrong`."""
    media_type = (request.header(b"content-type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise MediaTypeWrong
    try:
        data = await request.body(BODY_BYTES_MAX)
    except ManifestTooLarge:
        raise TooLarge(f"a body is at most {BODY_BYTES_MAX} bytes") from None
    except BodyStalled:
        raise Stalled from None
    try:
        return model.model_validate_json(data or b"{}", strict=True)
    except ValidationError as error:
        raise Invalid(_told(error, model, "field")) from None


def _told(error: ValidationError, model: type[BaseModel], what: str) -> str:
    """What is wrong, in words, without the values."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(_problem(problem, model, what) for problem in problems[:_PROBLEMS_MAX])


def _problem(problem: Mapping[str, Any], model: type[BaseModel], what: str) -> str:
    name = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields) or "none"
        return f"no {what} is called {_shown(name)}; there are: {known}"
    if problem["type"] == "missing":
        return f"the {what} {_shown(name)} has to be given"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" if problem["loc"] else f"the body: {message}"


def _shown(name: str) -> str:
    return f"'{name[:_NAME_CHARACTERS_MAX]}'"
