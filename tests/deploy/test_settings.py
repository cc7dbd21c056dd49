"""The product itself reads the settings that the chart renders."""

import pathlib
import subprocess

import pytest

from tests.deploy import rendered

PRODUCT = rendered.REPOSITORY / ".venv" / "bin" / "python"
"""The product's environment; the tools have another one."""
SECRETS = {
    "DISCORD_BOT_TOKEN": "t",
    "DISCORD_CLIENT_SECRET": "s",
    "INDEXER_CREDENTIAL_KEYS": "a" * 43,
    "MONGODB_URL": "mongodb://m/?tls=true",
    "REDIS_URL": "rediss://r",
}
LOADERS = {"exporter": "settings.load_exporter()", "migrate": "settings.load_migration()"}
LOAD = "from indexing import settings; {}"


def variables(objects: rendered.Objects, container: rendered.Object, folder: pathlib.Path) -> dict[str, str]:
    """Return the variables of a container, with made-up secrets and their files below *folder*."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= rendered.one(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    for each in container["env"]:
        name = each["name"]
        if name.endswith("_FILE"):
            path = folder / name
            path.write_text(SECRETS[name.removesuffix("_FILE")])
            found[name] = str(path)
        elif not each.get("valueFrom", {}).get("secretKeyRef", {}).get("optional"):
            found[name] = each.get("value", SECRETS.get(name, ""))
    return found


@pytest.mark.parametrize("installation", rendered.INSTALLATIONS)
def test_every_process_accepts_its_settings_when_it_boots(installation: str, tmp_path: pathlib.Path) -> None:
    """No pod ends at once with a message about its variables."""
    objects = rendered.own(installation)
    for where, _, container in rendered.containers(objects):
        if not where.split("/")[1].startswith("indexer-"):
            continue
        given = variables(objects, container, tmp_path)
        code = LOAD.format(LOADERS.get(container["name"], "settings.load()"))
        command = [str(PRODUCT), "-c", code]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env=given, cwd=rendered.REPOSITORY, timeout=60
        )

        assert done.returncode == 0, f"{where}: {done.stderr}"
