"""The settings as they are in force, for operators: every variable with its value, and no secret."""

import dataclasses
import re
from typing import Any

import pydantic

from indexing import settings

WITH_PASSWORD = re.compile(r"//[^/@\s]*@")
"""The part of a URL that names a user and his password."""


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """
    One variable.

    Attributes:
        value: As it is in force; of a secret only whether it is there.
        given: Whether it comes from the environment; else it is the default.
    """

    variable: str
    value: str
    given: bool

    def __str__(self) -> str:
        return f"{self.variable}={self.value}{'' if self.given else '  # default'}"


def read() -> tuple[list[Line], list[str]]:
    """Return the variables of all groups that can be accepted, and the problems of the others, by variable name."""
    lines: list[Line] = []
    problems: list[str] = []
    for group in settings.GROUPS.values():
        try:
            lines += _lines(group())
        except pydantic.ValidationError as error:
            problems += settings.problems_of(group, error)
    return lines, problems


def _lines(group: Any) -> list[Line]:  # noqa: ANN401 -- any of the groups
    given = group.model_fields_set
    return [
        Line(settings.variable(type(group), name), _shown(getattr(group, name)), name in given)
        for name in type(group).model_fields
    ]


def _shown(value: object) -> str:
    if isinstance(value, pydantic.SecretStr):
        return "(secret, set)" if value.get_secret_value() else "(secret, empty)"
    if isinstance(value, list | tuple | set | frozenset | dict) and "SecretStr" in repr(value):
        return "(secret, set)"
    return WITH_PASSWORD.sub("//(secret)@", str(value))
