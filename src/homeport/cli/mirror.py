"""`homeport mirror`: images of other registries."""

from __future__ import annotations

from homeport.cli import mirror_files
from homeport.cli.verbs import Verbs


def add(verbs: Verbs) -> None:
    """Add the verbs."""
    mirror = verbs.family("mirror", "Images of other registries: mirrored, and fetched when somebody asks for them.")
    mirror_files.add(mirror)
