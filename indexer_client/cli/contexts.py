"""
Contexts: how services are reached, kept by name, so that no command needs the options again.

They are in a JSON file that only its owner reads. It has the paths of token and key files, never a token.
"""

import dataclasses
import json
import os
import pathlib
import tempfile

from indexer_client.cli import errors

FOLDER = "discord-channel-indexer"
DEFAULT_ADDRESS = "127.0.0.1:50051"


@dataclasses.dataclass(frozen=True, slots=True)
class Context:
    """How one service is reached; empty values are not set. Paths are absolute."""

    address: str = DEFAULT_ADDRESS
    tls: bool = False
    tls_ca: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    tls_name: str = ""
    token_file: str = ""

    @property
    def secure(self) -> bool:
        """Whether it is reached over TLS."""
        return self.tls or any((self.tls_ca, self.tls_cert, self.tls_key, self.tls_name))


@dataclasses.dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts, and the name of the one in use; empty for none."""

    current: str
    known: dict[str, Context]


def path() -> pathlib.Path:
    """Return the file: in XDG_CONFIG_HOME, or ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME", "")  # noqa: TID251 -- where the user keeps files, no setting of ours
    return pathlib.Path(base or pathlib.Path.home() / ".config") / FOLDER / "contexts.json"


def load() -> Contexts:
    """
    Return the stored contexts.

    Raises:
        errors.CliError: The file cannot be read, or was not written by this program.
    """
    try:
        stored = json.loads(path().read_text("utf-8"))
        known = {name: Context(**fields) for name, fields in stored["contexts"].items()}
        return Contexts(str(stored["current"]), known)
    except FileNotFoundError:
        return Contexts("", {})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise errors.CliError(f"{path()} cannot be used ({error}); correct or delete it", errors.EXIT_USAGE) from error


def find(name: str) -> Context:
    """
    Return a context; the one in use for an empty name, or the default when none is.

    Raises:
        errors.CliError: There is none of this name.
    """
    stored = load()
    name = name or stored.current
    if not name:
        return Context()
    if name not in stored.known:
        names = ", ".join(stored.known) or "none is stored"
        raise errors.CliError(
            f"no context {name!r}; known: {names}. Make it with: indexer context set", errors.EXIT_USAGE
        )
    return stored.known[name]


def save(contexts: Contexts) -> None:
    """
    Replace the file at once, readable by its owner alone.

    Raises:
        errors.CliError: It cannot be written.
    """
    target = path()
    content = {"current": contexts.current, "contexts": {k: dataclasses.asdict(v) for k, v in contexts.known.items()}}
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=target.parent, delete=False, encoding="utf-8") as file:  # mode 0600
            json.dump(content, file, indent=2)
        pathlib.Path(file.name).replace(target)
    except OSError as error:
        raise errors.CliError(f"{target} cannot be written ({error.strerror})") from error
