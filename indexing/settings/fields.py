"""The base class of all settings groups, and the types of fields that have a syntax of their own."""

import dataclasses
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


HostField = Annotated[str, pydantic.Field(pattern=r"^[0-9A-Za-z.:_-]{0,253}$")]
"""Name or address to bind, without brackets; empty where the field has a default of its own."""


RateField = Annotated[Rate, pydantic_settings.NoDecode, pydantic.BeforeValidator(_parse_rate)]


MAX_SECRET_BYTES = 1 << 16
"""Longest file with a secret."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Refused:
    """What stands for a value that cannot be read, until validation reports why."""

    problem: str


class _SecretFiles(pydantic_settings.PydanticBaseSettingsSource):
    """Values of secrets from files: the variable `NAME_FILE` holds the path of the file with the value of `NAME`."""

    def get_field_value(self, field: pydantic.fields.FieldInfo, field_name: str) -> tuple[object, str, bool]:
        """Return the value of a field, None when no file is named."""
        name = variable(self.settings_cls, field_name)
        given = pydantic_settings.EnvSettingsSource(self.settings_cls).env_vars
        path = given.get(f"{name}_FILE".lower())
        if not is_secret(field) or not path:
            return None, field_name, False
        if given.get(name.lower()) is not None:
            return _Refused(f"must not be set together with {name}_FILE"), field_name, False
        return _read_secret(f"{name}_FILE", pathlib.Path(path)), field_name, False

    def __call__(self) -> dict[str, object]:
        """Return the values of all fields that have a file."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def is_secret(field: pydantic.fields.FieldInfo) -> bool:
    """Return whether a field holds a secret, which a file may hold instead of the variable."""
    return field.annotation is pydantic.SecretStr


def _read_secret(setting: str, path: pathlib.Path) -> str | _Refused:
    """
    Return the content of a secret's file; problems name the setting and repeat nothing of the file.

    They name the path only if its folder exists: the variable may hold the secret itself by mistake.
    """
    shown = path if path.is_absolute() and path.parent.is_dir() else "the file that it names"
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        text = content.decode()
    except OSError as error:
        return _Refused(f"{setting}: {shown} cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        return _Refused(f"{setting}: {shown} is not text in UTF-8")
    if len(content) > MAX_SECRET_BYTES:
        return _Refused(f"{setting}: {shown} is longer than {MAX_SECRET_BYTES} bytes")
    return text if text.strip() else _Refused(f"{setting}: {shown} is empty")


class Group(pydantic_settings.BaseSettings):
    """The variables of one concern, frozen once they are read; a value from a file may end with a newline."""

    model_config = pydantic_settings.SettingsConfigDict(
        frozen=True, use_attribute_docstrings=True, extra="ignore", hide_input_in_errors=True
    )

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _without_final_newline(cls, value: object) -> object:
        if isinstance(value, _Refused):
            raise ValueError(value.problem)  # noqa: TRY004 -- what pydantic reports
        return value.rstrip("\r\n") if isinstance(value, str) else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[pydantic_settings.BaseSettings],
        init_settings: pydantic_settings.PydanticBaseSettingsSource,
        env_settings: pydantic_settings.PydanticBaseSettingsSource,
        dotenv_settings: pydantic_settings.PydanticBaseSettingsSource,  # noqa: ARG003 -- unused, as before
        file_secret_settings: pydantic_settings.PydanticBaseSettingsSource,  # noqa: ARG003 -- as above
    ) -> tuple[pydantic_settings.PydanticBaseSettingsSource, ...]:
        """Read secrets from files as well."""
        return init_settings, _SecretFiles(settings_cls), env_settings


def _must_be_one_word(value: pydantic.SecretStr) -> pydantic.SecretStr:
    text = value.get_secret_value()
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("must not contain spaces, newlines or control characters")
    return value


SecretWord = Annotated[pydantic.SecretStr, pydantic.AfterValidator(_must_be_one_word)]
"""A secret that is sent in an HTTP header or a form."""


def variable(group: type[pydantic_settings.BaseSettings], field: str) -> str:
    """Return the name of the environment variable that sets *field* of *group*."""
    return (group.model_config.get("env_prefix", "") + field).upper()
