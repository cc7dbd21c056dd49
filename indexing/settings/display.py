"""Lists the settings in force, for operators: every variable with its value, and no secret."""

import dataclasses
import re

import pydantic

from indexing.settings import fields, loading

URL_USER = re.compile(r"//[^/@\s]*@")
"""The part of a URL that holds a user name and a password."""
URL_OPTION = re.compile(r"(?<=[?&;])(?!(?:client_id|permissions|scope)=)([^=&;#\s]+=)[^&;#\s]*")
"""An option in the query of a URL, which may hold a key or a token; those of a bot's invitation hold none."""


@dataclasses.dataclass(frozen=True, slots=True)
class SettingLine:
    """
    One variable.

    Attributes:
        value: The value in force; for a secret only whether it is set.
        given: Whether the environment sets it; otherwise the value is the default.
    """

    variable: str
    value: str
    given: bool

    def __str__(self) -> str:
        return f"{self.variable}={self.value}{'' if self.given else '  # default'}"


def list_settings() -> tuple[list[SettingLine], list[str]]:
    """Return the variables of all valid groups, and every problem, one line each, by variable name."""
    groups, problems = loading.read_groups(loading.GROUPS)
    return [line for group in groups.values() for line in _lines_of(group)], problems


def _lines_of(group: fields.Group) -> list[SettingLine]:
    return [
        SettingLine(
            fields.variable(type(group), name), _mask_secrets(getattr(group, name)), name in group.model_fields_set
        )
        for name in type(group).model_fields
    ]


def _mask_secrets(value: object) -> str:
    if isinstance(value, pydantic.SecretStr):
        return "(secret, set)" if value.get_secret_value() else "(secret, empty)"
    if isinstance(value, list | tuple | set | frozenset | dict) and "SecretStr" in repr(value):
        return "(secret, set)"
    text = str(value)
    if "://" not in text:
        return text
    return URL_OPTION.sub(r"\1(secret)", URL_USER.sub("//(secret)@", text))
