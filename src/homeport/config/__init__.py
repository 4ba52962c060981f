"""The settings: one frozen, typed tree, read once, from a YAML file and the environment.

Holds: a setting has one name, one default and one sentence of help, all in `settings.py`; its environment variable, the
JSON Schema, the commented file of `homeport init` and the reference page are made from that. What nobody knows is
refused with its line. A secret is a reference, never a value. No other module reads the environment.
"""

from homeport.config.loading import ConfigError, Problem, changes, load, located, marks
from homeport.config.mirroring import Cache, Freshness, Mirror, MirroredImage, TagSelection, Upstream
from homeport.config.references import SecretReference, SecretUnreadable, process_environment
from homeport.config.settings import (
    Access,
    Bitwarden,
    Cleanup,
    Client,
    ClientHost,
    Engine,
    Housekeeping,
    ImmutableTags,
    InUse,
    Jobs,
    KeepRule,
    Limits,
    Log,
    Repositories,
    Right,
    Rule,
    Secrets,
    Server,
    Settings,
    Storage,
    Target,
    Tls,
    User,
    Vaultwarden,
)
from homeport.config.tree import references
from homeport.config.values import Address

__all__ = [
    "Access",
    "Address",
    "Bitwarden",
    "Cache",
    "Cleanup",
    "Client",
    "ClientHost",
    "ConfigError",
    "Engine",
    "Freshness",
    "Housekeeping",
    "ImmutableTags",
    "InUse",
    "Jobs",
    "KeepRule",
    "Limits",
    "Log",
    "Mirror",
    "MirroredImage",
    "Problem",
    "Repositories",
    "Right",
    "Rule",
    "SecretReference",
    "SecretUnreadable",
    "Secrets",
    "Server",
    "Settings",
    "Storage",
    "TagSelection",
    "Target",
    "Tls",
    "Upstream",
    "User",
    "Vaultwarden",
    "changes",
    "load",
    "located",
    "marks",
    "process_environment",
    "references",
]
