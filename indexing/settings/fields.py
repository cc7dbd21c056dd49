"""The base class of all settings groups, and the types of fields that have a syntax of their own."""

import pathlib
import re
from typing import Annotated

import pydantic
import pydantic_settings


class Rate(pydantic.BaseModel, frozen=True):
    """A budget's size: `capacity` calls in any `window` seconds. Written as `50/1`."""

    capacity: int = pydantic.Field(gt=0, le=100_000)
    window: float = pydantic.Field(gt=0, le=86_400)

    def __str__(self) -> str:
        return f"{self.capacity}/{self.window:g}"


def _parse_rate(value: object) -> object:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6}(?:\.\d{1,3})?)", value)
        if match is None:
            raise ValueError("must look like 50/1 (calls/seconds)")
        return Rate(capacity=int(match[1]), window=float(match[2]))
    return value


def _parse_path(value: object) -> object:
    """Return None for an empty path; refuse the content of a file, because a key would be printed with the settings."""
    if isinstance(value, str) and ("\n" in value or "-----" in value):
        raise ValueError("must be the path of a file, not its content")
    return value or None


FileField = Annotated[pathlib.Path | None, pydantic.BeforeValidator(_parse_path)]


RateField = Annotated[Rate, pydantic_settings.NoDecode, pydantic.BeforeValidator(_parse_rate)]


class Group(pydantic_settings.BaseSettings):
    """The variables of one concern, frozen once they are read; a value from a file may end with a newline."""

    model_config = pydantic_settings.SettingsConfigDict(
        frozen=True, use_attribute_docstrings=True, extra="ignore", hide_input_in_errors=True
    )

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _without_final_newline(cls, value: object) -> object:
        return value.rstrip("\r\n") if isinstance(value, str) else value


def _must_be_one_word(value: pydantic.SecretStr) -> pydantic.SecretStr:
    text = value.get_secret_value()
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("must not contain spaces, newlines or control characters")
    return value


SecretWord = Annotated[pydantic.SecretStr, pydantic.AfterValidator(_must_be_one_word)]
"""A secret that is sent in an HTTP header or a form."""


def variable(group: type[Group], field: str) -> str:
    """Return the name of the environment variable that sets *field* of *group*."""
    return (group.model_config.get("env_prefix", "") + field).upper()
