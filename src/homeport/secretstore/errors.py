"""What goes wrong with a secret.

Holds: the text is for people, says what to do, and no secret value is in it.
"""

from __future__ import annotations


class SecretUnavailable(Exception):
    """A secret cannot be had now."""
