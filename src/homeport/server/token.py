"""The token service over HTTP: GET with Basic, and POST as OAuth2 has it.

Sources: Docker's token authentication specification and its OAuth2 variant; RFC 6749, sections 4.3, 5 and 6.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from homeport.auth.logins import IssuedToken, basic
from homeport.oci.errors import RequestInvalid, Unauthorized
from homeport.server.access import Challenge
from homeport.server.context import Context
from homeport.server.http import Request, Response, json_response

#: A form holds a few names, a password and some scopes.
FORM_BYTES_MAX = 64 * 1024
_FIELDS_MAX = 64

METHODS = ("GET", "HEAD", "POST")


async def answer(context: Context, request: Request) -> Response:
    """GET, HEAD or POST of `/token`."""
    return await (_oauth2 if request.method == "POST" else _get)(context, request)


async def _get(context: Context, request: Request) -> Response:
    offline = request.parameter("offline_token") in {"true", "1"}
    issued = await _issue(
        context,
        request,
        request.query.get("scope", []),
        authorization=request.header(b"authorization"),
        offline=offline,
    )
    document: dict[str, object] = {
        "token": issued.token,
        "access_token": issued.token,
        "expires_in": issued.expires_in_seconds,
        "issued_at": issued.issued_at,
    }
    if issued.refresh_token is not None:
        document["refresh_token"] = issued.refresh_token
    return _private(document)


async def _oauth2(context: Context, request: Request) -> Response:
    form = await _form(request)
    scopes = form.get("scope", "").split()
    grant = form.get("grant_type")
    if grant == "refresh_token":
        refresh_token = form.get("refresh_token", "")
        issued = await _issue(context, request, scopes, refresh_token=refresh_token)
    elif grant == "password":
        try:
            authorization = basic(form.get("username", ""), form.get("password", ""))
        except Unauthorized as error:
            raise Challenge(error, None, None) from None
        offline = form.get("access_type") == "offline"
        issued = await _issue(context, request, scopes, authorization=authorization, offline=offline)
        refresh_token = issued.refresh_token or ""
    else:
        raise RequestInvalid("grant_type must be 'password' or 'refresh_token'")
    document: dict[str, object] = {
        "access_token": issued.token,
        "token_type": "Bearer",
        "scope": issued.scope,
        "expires_in": issued.expires_in_seconds,
        "issued_at": issued.issued_at,
    }
    if refresh_token:
        document["refresh_token"] = refresh_token
    return _private(document)


async def _issue(
    context: Context,
    request: Request,
    scopes: list[str],
    *,
    authorization: str | None = None,
    refresh_token: str | None = None,
    offline: bool = False,
) -> IssuedToken:
    try:
        return await context.logins.token(
            scopes, request.address, authorization=authorization, refresh_token=refresh_token, offline=offline
        )
    except Unauthorized as error:
        raise Challenge(error, None, None) from None


async def _form(request: Request) -> dict[str, str]:
    """The fields of an urlencoded body; of one that is given twice, the first."""
    body = await request.body(FORM_BYTES_MAX)
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise RequestInvalid("the form cannot be read") from None
    return {name: values[0] for name, values in fields.items()}


def _private(document: dict[str, object]) -> Response:
    return json_response(200, document, [(b"cache-control", b"no-store")])
