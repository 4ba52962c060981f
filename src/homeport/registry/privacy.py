"""Which repositories other registries do not show to everybody. Owns the table `private_repositories`.

Holds: what was fetched with a login of ours, and what nobody gets there without one, nobody gets here without one. The
row is there before the first byte of the repository is, and outlives the repository: the name is what is private.
"""

from __future__ import annotations

from homeport.db.database import Transaction


def set_private(tx: Transaction, repository: str, *, private: bool) -> None:
    """Note whether upstream keeps the repository from those who do not log in there."""
    if private:
        tx.run("INSERT INTO private_repositories (repository) VALUES (?) ON CONFLICT DO NOTHING", (repository,))
    else:
        tx.run("DELETE FROM private_repositories WHERE repository = ?", (repository,))


def is_private(tx: Transaction, repository: str) -> bool:
    """Whether it is never served as to anybody, whoever may pull without a login."""
    return tx.one("SELECT 1 FROM private_repositories WHERE repository = ?", (repository,)) is not None
