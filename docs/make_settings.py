"""Generates docs/settings.md from the settings groups in indexing/settings."""

import pydantic

from indexing import settings

INTRO = """# Settings

Every setting is an environment variable.
A process reads its settings at boot.
It reports all problems at once, one line each with the variable's name, and exits with code 2.
Settings that exclude each other are a problem as well: the line names both with their values.
For a secret, `NAME_FILE` may name a file with its value, such as a mounted secret of Kubernetes.
A newline at its end is ignored.
The file is read at boot: after a change of a secret, restart the processes one by one.
`indexer settings` prints the settings in force, without secrets.
`make docs` generates this page from `indexing/settings`.
"""


def main() -> None:
    """Print the page."""
    print(INTRO)
    for group in settings.GROUPS.values():
        print(f"## {(group.__doc__ or '').strip().removesuffix('.')}\n")
        print("| variable | default | meaning |\n|---|---|---|")
        for name, field in group.model_fields.items():
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            variable = settings.variable(group, name)
            named = f"`{variable}`, `{variable}_FILE`" if settings.is_secret(field) else f"`{variable}`"
            print(f"| {named} | {_default(field)} | {meaning} |")
        print()


def _default(field: pydantic.fields.FieldInfo) -> str:
    if field.is_required():
        return "must be set"
    value = field.default.get_secret_value() if isinstance(field.default, pydantic.SecretStr) else field.default
    return f"`{value}`"


if __name__ == "__main__":
    main()
