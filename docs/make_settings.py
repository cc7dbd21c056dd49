"""Prints docs/settings.md from the declarations in indexing/settings."""

import pydantic

from indexing import settings

INTRO = """# Settings

Every setting is an environment variable.
All problems are reported at once, by name, and the process ends with exit code 2.
This page is made from `indexing/settings` by `make docs`.
"""


def main() -> None:
    """Print the page."""
    print(INTRO)
    for group in settings.GROUPS.values():
        print(f"## {(group.__doc__ or '').strip()}\n")
        print("| variable | default | meaning |\n|---|---|---|")
        for name, field in group.model_fields.items():
            meaning = " ".join((field.description or "").split()).replace("|", "\\|")
            print(f"| `{settings.variable(group, name)}` | {_default(field)} | {meaning} |")
        print()


def _default(field: pydantic.fields.FieldInfo) -> str:
    if field.is_required():
        return "must be set"
    value = field.default.get_secret_value() if isinstance(field.default, pydantic.SecretStr) else field.default
    return f"`{value}`"


if __name__ == "__main__":
    main()
