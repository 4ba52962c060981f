"""What can go wrong when users and tokens are managed. As in `oci/errors.py`, the docstring is the message."""

from __future__ import annotations

from homeport.oci.errors import RegistryError


class UserExists(RegistryError):
    """There is a user of that name already."""

    code, status = "UNSUPPORTED", 409


class UserUnknown(RegistryError):
    """There is no user of that name."""

    code, status = "UNSUPPORTED", 404


class UserConfigured(RegistryError):
    """That user is defined in the configuration; change it there."""

    code, status = "UNSUPPORTED", 409


class UserNameInvalid(RegistryError):
    """A user name is at most 128 letters, digits, '.', '_', '@', '+' and '-', and begins with a letter or digit.

    It is not "anonymous" either: in an access rule that is everybody.
    """

    code, status = "UNSUPPORTED", 400


class PasswordInvalid(RegistryError):
    """That cannot be a password."""

    code, status = "UNSUPPORTED", 400


class PasswordHashInvalid(RegistryError):
    """That is not a password hash that is taken here: argon2id, or bcrypt."""

    code, status = "UNSUPPORTED", 400


class TokenInvalid(RegistryError):
    """A token cannot be like that."""

    code, status = "UNSUPPORTED", 400


class TokenUnknown(RegistryError):
    """There is no such token."""

    code, status = "UNSUPPORTED", 404


class PolicyInvalid(RegistryError):
    """An access rule cannot be understood."""

    code, status = "UNSUPPORTED", 400
