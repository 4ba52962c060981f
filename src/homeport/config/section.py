"""What every section of the settings is made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


def setting(default: Any, help_text: str, *, live: bool = False, **bounds: Any) -> Any:
    """A setting with its default and its sentence of help; `live`: a running server takes a change over."""
    return Field(default=default, description=help_text, json_schema_extra={"live": live}, **bounds)


class Section(BaseModel):
    """Several settings under one name. Keys that it does not know are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        # `server:` with nothing but comments below it is null in YAML.
        return {} if value is None else value
