"""Who may go on, and how those who may not are told to log in.

Holds: a challenge never tells whether the repository exists. Whoever has no credentials, or a bearer token that lacks
the scope, is asked to get a token; whoever logged in with a password and has no right is told so (403). At the mirror
door nobody is asked to log in: nodes would begin to send credentials that are for other registries.
Sources: Docker's token authentication specification; RFC 6750, section 3.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import NoReturn, TypeVar

from homeport.auth.actors import Actor
from homeport.auth.permissions import Policy, Right, held, is_upstreams, may, unscoped
from homeport.db.database import Transaction
from homeport.oci.errors import Denied, NotANode, Unauthorized, UpstreamsName
from homeport.registry import privacy
from homeport.server.context import Call, Context
from homeport.server.http import Headers, Request
from homeport.server.proxies import base_url

#: The name of the service in challenges and the audience of its tokens.
SERVICE = "homeport"

T = TypeVar("T")

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


async def require(call: Call, *needed: Right) -> None:
    """Go on only if the caller has all these rights on the call's repository."""
    found = held(call.context.policy, call.actor, call.repository)
    for right in needed:
        if right not in found.rights:
            _refuse(call, needed)
    as_anybody = found.pulls_as_anybody and Right.PULL in needed
    if as_anybody and await call.registry.db.read(privacy.is_private, call.repository):
        _refuse(call, needed)


async def from_cache(call: Call, answer: Awaitable[T]) -> T:
    """What the cache answers, if the caller may have it.

    Who may is asked before the cache is, and again here: only since upstream was asked it may be known that it does not
    show the repository to everybody.
    """
    found = await answer
    await require(call, Right.PULL)
    return found


def shown(tx: Transaction, policy: Policy, actor: Actor, repository: str) -> bool:
    """Whether `actor` may pull from a repository that its request only mentions, whatever its bearer token is for.

    Clients ask for a token before they know where a blob can be mounted from. What limits a token that was handed on
    holds here, too.
    """
    found = held(policy, unscoped(actor), repository)
    return Right.PULL in found.rights and not (found.pulls_as_anybody and privacy.is_private(tx, repository))


def _refuse(call: Call, needed: tuple[Right, ...]) -> NoReturn:
    policy, actor, repository = call.context.policy, call.actor, call.repository
    if call.at_door:
        raise NotANode(f"You ask from {call.request.address}, for {repository}")
    pushes = Right.PUSH in needed and not may(policy, unscoped(actor), Right.PUSH, repository)
    if pushes and is_upstreams(policy, repository) and actor.kind in {"user", "robot"}:
        raise UpstreamsName(repository)
    refuse(actor, f"repository:{repository}:{_actions(needed)}")


def refuse(actor: Actor, scope: str) -> NoReturn:
    """Raise what tells `actor` how to get the right, if there is a way."""
    if actor.is_nobody:
        raise Challenge(Unauthorized(scope), scope, None)
    if actor.scope is not None:
        raise Challenge(Unauthorized(scope), scope, "insufficient_scope")
    raise Denied(scope)


def anonymous_may_everything(policy: Policy) -> bool:
    """Whether nobody ever has to log in, so that clients need not be asked to."""
    return {Right.PULL, Right.PUSH, Right.DELETE} <= policy.anonymous and not any(
        rule.visibility == "private" for rule in policy.rules
    )


def may_pull_something(policy: Policy, nobody: Actor) -> bool:
    """Whether there can be a repository that this actor, who showed no credentials, has not to log in for."""
    if Right.PULL in policy.anonymous or (nobody.kind == "node" and policy.cached):
        return True
    return any(
        rule.visibility == "public" or {Right.PULL, Right.ADMIN} & rule.allow.get("anonymous", frozenset())
        for rule in policy.rules
    )


def _actions(needed: Iterable[Right]) -> str:
    return ",".join(dict.fromkeys(",".join(_SCOPE_ACTIONS[right] for right in needed).split(",")))
