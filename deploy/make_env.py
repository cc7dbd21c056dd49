"""Generates deploy/chart/settings.env from the settings groups in indexing/settings."""

import pydantic

from indexing import settings

INTRO = """# Every setting except secrets, which Deployments reference from Secrets. docs/settings.md describes each.
# A commented line shows a default.
# `make docs` generates this file; deploy/make_env.py sets the values that differ from the defaults in pods.
"""
IN_A_POD = {
    "INDEXER_LISTEN": "[::]:50051",
    "INDEXER_PROBE_PORT": "50052",
    "WORKERS_REFRESH": "0",
}


def main() -> None:
    """Print the file."""
    print(INTRO)
    for group in settings.GROUPS.values():
        fields = {settings.variable(group, name): field for name, field in group.model_fields.items()}
        shown = [_line(name, field) for name, field in fields.items() if pydantic.SecretStr is not field.annotation]
        if shown:
            print("\n".join(shown), end="\n\n")


def _line(name: str, field: pydantic.fields.FieldInfo) -> str:
    if name in IN_A_POD:
        return f"{name}={IN_A_POD[name]}"
    return f"#{name}={'' if field.default is None else field.default}"


if __name__ == "__main__":
    main()
