"""Redis and Valkey in several versions and set-ups, as child processes whose settings change while they run."""

import contextlib
import dataclasses
import pathlib
import re
import signal
import subprocess
import tempfile
import urllib.parse
from typing import Any, Self

import redis

from tests import authority, servers

CHECKOUT = pathlib.Path(__file__).parents[2]
USER, PASSWORD = "idx", "p@w"
BOOT = 30.0


def documented_rights() -> list[str]:
    """Return the rules of the user in docs/deploy.md."""
    (found,) = re.findall(r"```\n(resetkeys .*?)```", (CHECKOUT / "docs/deploy.md").read_text("utf-8"), re.DOTALL)
    return str(found).split()


@dataclasses.dataclass(frozen=True, slots=True)
class SetUp:
    """
    How a server is set up.

    Attributes:
        tls: It speaks only TLS, with a certificate of an authority of its own.
        limited_user: The product logs in as a user with the documented rights and no others.
        options: More options of the command line.
    """

    tls: bool = False
    limited_user: bool = False
    options: tuple[str, ...] = ()


class Server:
    """
    One server; use it as a context manager.

    Attributes:
        port: Its port.
        url: What the product gets as REDIS_URL.
        admin: A client that may do everything.
    """

    def __init__(self, program: str, setup: SetUp | None = None) -> None:
        self._program = program
        self.setup = setup or SetUp()
        self._stack = contextlib.ExitStack()
        self._folder = pathlib.Path(
            self._stack.enter_context(
                tempfile.TemporaryDirectory(prefix="indexer-servers-", ignore_cleanup_errors=True)
            )
        )
        self.port = servers.free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._authority = authority.Authority()
        (self._folder / "ca").write_bytes(self._authority.pem)
        self.set_certificate(self._authority)
        self.admin = self._connect()

    @property
    def url(self) -> str:
        """What the product gets as REDIS_URL."""
        login = f"{USER}:{urllib.parse.quote(PASSWORD)}@" if self.setup.limited_user else ""
        scheme, query = ("rediss", f"?ssl_ca_certs={self._folder / 'ca'}") if self.setup.tls else ("redis", "")
        return f"{scheme}://{login}127.0.0.1:{self.port}/0{query}"

    @property
    def version(self) -> str:
        """Name and version, as INFO has them."""
        info: Any = self.admin.info("server")
        return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"

    def __enter__(self) -> Self:
        self._stack.callback(self.stop)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def start(self, *options: str) -> None:
        """Start it, and wait until it answers."""
        listen = ["--port", str(self.port)]
        if self.setup.tls:
            files = {name: str(self._folder / name) for name in ("certificate", "key", "ca")}
            listen = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            listen += ["--tls-cert-file", files["certificate"], "--tls-key-file", files["key"]]
            listen += ["--tls-ca-cert-file", files["ca"]]
        common = ["--bind", "127.0.0.1", "--dir", str(self._folder), "--save", "", "--appendonly", "yes"]
        command = [self._program, *listen, *common, *self.setup.options, *options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        servers.wait_until(self._answers, BOOT)
        if self.setup.limited_user and "cluster-enabled" not in " ".join(options):
            self.allow()

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()

    def allow(self, *changes: str, password: str = PASSWORD) -> None:
        """Give the product's user the documented rights, changed."""
        rules = ["reset", "on", f">{password}", *documented_rights(), *changes]
        self.admin.execute_command("ACL", "SETUSER", USER, *rules)  # type: ignore[no-untyped-call]  # untyped there

    def disconnect(self) -> None:
        """Close the connections of all clients."""
        self.admin.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")  # type: ignore[no-untyped-call]  # untyped there

    def set_certificate(self, signer: authority.Authority) -> None:
        """Write a new certificate; a running server takes it with `reload_certificate`."""
        pair = signer.sign("localhost")
        (self._folder / "certificate").write_bytes(pair.certificate)
        (self._folder / "key").write_bytes(pair.key)

    def reload_certificate(self) -> None:
        """Make the server read its certificate again."""
        files = [part for name in ("cert", "key") for part in (f"tls-{name}-file", self._path_of(name))]
        self.admin.execute_command("CONFIG", "SET", *files)  # type: ignore[no-untyped-call]  # untyped there

    def refused_commands(self) -> set[str]:
        """Return what the server refused its users, by ACL LOG."""
        log: Any = self.admin.acl_log()
        return {str(entry["object"]) for entry in log}

    def _path_of(self, name: str) -> str:
        return str(self._folder / {"cert": "certificate", "key": "key"}[name])

    def _connect(self) -> redis.Redis:
        options: dict[str, Any] = {}
        if self.setup.tls:
            options = {"ssl": True, "ssl_cert_reqs": "none", "ssl_check_hostname": False}
        client: redis.Redis = self._stack.enter_context(redis.Redis(port=self.port, socket_timeout=5.0, **options))
        return client

    def _answers(self) -> bool:
        with contextlib.suppress(redis.exceptions.RedisError):
            return bool(self.admin.ping())
        return False
