"""Who may go on, and how those who may not are told to log in.

Holds: a challenge never tells whether the repository exists. Whoever has no credentials, or a bearer token that lacks
the scope, is asked to get a token; whoever logged in with a password and has no right is told so (403).
Sources: Docker's token authentication specification; RFC 6750, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable

from homeport.auth.actors import ANONYMOUS, Actor
from homeport.auth.permissions import Policy, Right, may
from homeport.oci.errors import Denied, Unauthorized
from homeport.server.context import Call, Context
from homeport.server.http import Headers, Request
from homeport.server.proxies import base_url

#: The name of the service in challenges and the audience of its tokens.
SERVICE = "homeport"

_SCOPE_ACTIONS = {Right.PULL: "pull", Right.PUSH: "pull,push", Right.DELETE: "delete", Right.ADMIN: "*"}


class Challenge(Exception):
    """Access was refused in a way that a client can mend by getting a token."""

    def __init__(self, error: Unauthorized, scope: str | None, reason: str | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.scope = scope
        #: RFC 6750's error code: None where no token was sent.
        self.reason = reason

    def headers(self, context: Context, request: Request) -> Headers:
        """The `WWW-Authenticate` header: one Bearer challenge, every value quoted."""
        realm = f"{base_url(request, context.options)}/token"
        value = f'Bearer realm="{realm}",service="{SERVICE}"'
        if self.scope:
            value += f',scope="{self.scope}"'
        if self.reason:
            value += f',error="{self.reason}"'
        return [(b"www-authenticate", value.encode("latin-1", "replace"))]


def require(call: Call, *needed: Right) -> None:
    """Go on only if the caller has all these rights on the call's repository."""
    policy = call.context.policy
    for right in needed:
        if not may(policy, call.actor, right, call.repository):
            refuse(call.actor, f"repository:{call.repository}:{_actions(needed)}")


def refuse(actor: Actor, scope: str) -> None:
    """Raise what tells `actor` how to get the right, if there is a way."""
    if actor == ANONYMOUS:
        raise Challenge(Unauthorized(scope), scope, None)
    if actor.scope is not None:
        raise Challenge(Unauthorized(scope), scope, "insufficient_scope")
    raise Denied(scope)


def anonymous_may_everything(policy: Policy) -> bool:
    """Whether nobody ever has to log in, so that clients need not be asked to."""
    return {Right.PULL, Right.PUSH, Right.DELETE} <= policy.anonymous and not any(
        rule.visibility == "private" for rule in policy.rules
    )


def anonymous_may_pull_something(policy: Policy) -> bool:
    """Whether there can be a repository that nobody has to log in for."""
    return Right.PULL in policy.anonymous or any(
        rule.visibility == "public" or {Right.PULL, Right.ADMIN} & rule.allow.get("anonymous", frozenset())
        for rule in policy.rules
    )


def _actions(needed: Iterable[Right]) -> str:
    return ",".join(dict.fromkeys(",".join(_SCOPE_ACTIONS[right] for right in needed).split(",")))
