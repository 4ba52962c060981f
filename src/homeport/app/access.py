"""Who may do what, from the configuration and the secrets that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from homeport.auth.directory import ConfiguredUser, LoginSettings
from homeport.auth.permissions import Policy, Right, Rule
from homeport.config.errors import ConfigError, Problem, SecretUnreadable
from homeport.config.references import SecretReference
from homeport.config.settings import Settings
from homeport.mirror import addresses
from homeport.notify.targets import targets_of
from homeport.oci.errors import RegistryError
from homeport.server.access import SERVICE


def login_settings(settings: Settings, held: Callable[[SecretReference], str | None]) -> LoginSettings:
    """What the configuration says about access. Raises `ConfigError`.

    `held` gives a secret, or None where a vault has not answered yet: nobody logs in as that user until it has.
    """
    access = settings.access
    problems = []
    users = []
    for name, user in access.users.items():
        try:
            users.append(ConfiguredUser(name, held(user.password), admin=user.admin))
        except (SecretUnreadable, RegistryError) as error:
            problems.append(Problem(f"access.users.{name}", str(error)))
    if problems:
        raise ConfigError(problems)
    try:
        policy = Policy(
            anonymous=frozenset(map(Right, access.anonymous)),
            signed_in=frozenset(map(Right, access.signed_in)),
            rules=tuple(
                Rule(
                    (rule.repositories,),
                    {subject: frozenset(map(Right, rights)) for subject, rights in rule.allow.items()},
                    rule.visibility,
                )
                for rule in access.rules
            ),
            groups={group: frozenset(members) for group, members in access.groups.items()},
            upstreams=_upstreams(settings),
            cached=frozenset(addresses.folders(settings.cache.upstreams)),
            networks=settings.cache.networks,
        )
    except RegistryError as error:
        raise ConfigError([Problem("access.rules", str(error))]) from None
    return LoginSettings(policy, tuple(users), int(settings.server.token_seconds), SERVICE)


def _upstreams(settings: Settings) -> frozenset[str]:
    """The first parts of the names under which other registries' repositories stand here."""
    hosts = {*settings.cache.upstreams, *settings.upstreams}
    for image in settings.mirror.images:
        host = image.source.partition("/")[0]
        if image.target.startswith(("{host}/", f"{addresses.folder(host)}/")):
            hosts.add(host)
    return frozenset(addresses.folders(hosts))


def problems(settings: Settings, environ: Mapping[str, str]) -> list[Problem]:
    """What a start with these settings would refuse beyond what their form shows. No vault is asked."""

    def held(reference: SecretReference) -> str | None:
        return reference.read(environ) if reference.is_local else None

    found: list[Problem] = []
    for part in (lambda: login_settings(settings, held), lambda: targets_of(settings.notify)):
        try:
            part()
        except ConfigError as error:
            found += error.problems
    return found
