"""The URLs of Redis and MongoDB: which forms and options are accepted, and the parts of a Sentinel URL."""

import dataclasses
import ipaddress
import urllib.parse
from collections.abc import Callable

PLAIN_REDIS = ("redis://", "rediss://", "unix://")
SENTINEL = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}
"""Schemes of Sentinel URLs, and the scheme of a server that Sentinel names."""
SENTINEL_PORT = 26379
IN_CLEAR = "names servers beyond loopback without verified TLS"
"""Problem of a URL whose passwords and data are not encrypted, or whose server is not verified."""
OFF = frozenset({"0", "no", "off", "false"})


@dataclasses.dataclass(frozen=True, slots=True)
class OptionRule:
    """Which values of an option of a MongoDB URL are allowed, the option as it is written, and what the store needs."""

    shown: str
    allows: Callable[[str], bool]
    need: str


MONGODB_RULES = {
    "readpreference": OptionRule("readPreference", lambda value: value.lower() == "primary", "reads go to the primary"),
    "readpreferencetags": OptionRule("readPreferenceTags", lambda _: False, "reads go to the primary"),
    "maxstalenessseconds": OptionRule("maxStalenessSeconds", lambda value: value == "-1", "reads go to the primary"),
    "journal": OptionRule("journal", lambda value: value.lower() not in OFF, "writes must be in the journal"),
    "j": OptionRule("j", lambda value: value.lower() not in OFF, "writes must be in the journal"),
    "wtimeoutms": OptionRule("wtimeoutMS", lambda _: False, "MONGODB_TIMEOUT limits writes"),
    "wtimeout": OptionRule("wtimeout", lambda _: False, "MONGODB_TIMEOUT limits writes"),
    "readconcernlevel": OptionRule(
        "readConcernLevel", lambda value: value in {"local", "majority"}, "local and majority are supported"
    ),
}
"""Rules by the option's name in lower case; other options are allowed."""


@dataclasses.dataclass(frozen=True, slots=True, repr=False)
class SentinelUrl:
    """
    The parts of `redis+sentinel://[user:password@]host[:26379],host/service[/db]?...`, as plain URLs.

    The options `sentinel_username`, `sentinel_password` and `sentinel_tls` apply to the Sentinels, the others, as in a
    plain URL, to the servers; those that begin with ssl_ apply to both.

    Attributes:
        service: The name under which the Sentinels know the primary.
        server: URL of the servers. Its host stands for the address that a Sentinel names.
        sentinels: URLs of the Sentinels.
    """

    service: str
    server: str
    sentinels: tuple[str, ...]


def parse_sentinel(url: str) -> SentinelUrl | None:
    """Return the parts of a Sentinel URL; None for any other URL. Raises ValueError, without the URL in its text."""
    scheme, _, rest = url.partition("://")
    if scheme not in SENTINEL:
        return None
    location, _, query = rest.partition("?")
    authority, _, path = location.partition("/")
    user, _, hosts = authority.rpartition("@")
    service, _, db = path.partition("/")
    if not service or not all(hosts.split(",")):
        raise ValueError(f"must name hosts and a service, as in {scheme}://host:26379,host:26379/service/0")
    if not (db.isdecimal() or not db):
        raise ValueError("must end with the number of a database after the service, or with the service")
    options = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    name, password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    server_scheme = SENTINEL[scheme]
    tls = server_scheme == "rediss" and options.pop("sentinel_tls", "1").lower() not in OFF
    options.pop("sentinel_tls", None)
    ssl_options = {key: value for key, value in options.items() if key.startswith("ssl_")} if tls else {}
    sentinel_user = f"{_quote(name)}:{_quote(password)}@" if name or password else ""
    return SentinelUrl(
        urllib.parse.unquote(service),
        f"{server_scheme}://{user}{'@' if user else ''}primary:6379/{db or 0}?{urllib.parse.urlencode(options)}",
        tuple(
            f"{'rediss' if tls else 'redis'}://{sentinel_user}{_with_port(host)}/?{urllib.parse.urlencode(ssl_options)}"
            for host in hosts.split(",")
        ),
    )


def _quote(text: str) -> str:
    return urllib.parse.quote(text, safe="")


def _with_port(host: str) -> str:
    """Return *host* with a port. An IPv6 address is in brackets."""
    try:
        port = urllib.parse.urlsplit(f"//{host}").port
    except ValueError as error:
        raise ValueError("must name hosts with a port from 1 to 65535, or without one") from error
    return host if port else f"{host.rstrip(':')}:{SENTINEL_PORT}"


def _check_text(url: str) -> None:
    """Raise ValueError for what an editor or a copied text leaves in a URL; the drivers read it as part of a value."""
    if not url.isprintable() or url != url.strip():
        raise ValueError("must not begin or end with a blank, or contain control characters")


def check_redis(url: str) -> None:
    """Raise ValueError for a URL of no supported form."""
    _check_text(url)
    if not url.startswith(PLAIN_REDIS) and parse_sentinel(url) is None:
        raise ValueError(
            "must begin with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://; "
            "Redis Cluster is not supported"
        )


def redis_address(url: str) -> str:
    """Return the host and port, the Sentinels, or the socket's path: the URL without secrets, for messages."""
    if parse_sentinel(url) is not None:
        return "Sentinel " + url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    parts = urllib.parse.urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname or 'localhost'}:{parts.port or 6379}"


def check_mongodb(url: str) -> None:
    """
    Raise ValueError for a URL of no supported form, or with an option that would break a promise of the store.

    Reads see the writes before them, so they go to the primary. A write is done when a majority has it in its journal,
    and a write whose concern fails is an error within MONGODB_TIMEOUT. The client sets `w` and `timeoutMS` itself.
    """
    _check_text(url)
    if not url.startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("must begin with mongodb:// or mongodb+srv://")
    problems = [
        f"{rule.shown}={value} ({rule.need})"
        for name, value in _mongodb_options(url)
        if (rule := MONGODB_RULES.get(name)) is not None and not rule.allows(value)
    ]
    if problems:
        raise ValueError("must not contain " + ", ".join(problems))


UNVERIFIED_MONGODB = ("tlsinsecure", "tlsallowinvalidcertificates", "ssl_cert_reqs")
"""Options with which the driver does not verify a certificate; the last one is the old name of the second."""


def mongodb_in_clear(url: str) -> bool:
    """Return whether a URL names servers beyond loopback without TLS, or with TLS that does not verify them."""
    options = dict(_mongodb_options(url))
    tls = options.get("tls", options.get("ssl", "true" if url.startswith("mongodb+srv://") else "false"))
    location = url.partition("://")[2].partition("?")[0]
    hosts = (location.rpartition("/")[0] or location).rpartition("@")[2]
    verified = tls.lower() == "true" and all(options.get(name, "false").lower() in OFF for name in UNVERIFIED_MONGODB)
    return not verified and not all(map(is_local, hosts.split(",")))


def redis_in_clear(url: str) -> bool:
    """Return whether a URL names servers or Sentinels beyond loopback without TLS, or without verifying them."""
    sentinel = parse_sentinel(url)
    if sentinel is None:
        return not _is_verified_redis(url) and not is_local(_redis_host(url))
    are_local = all(is_local(_redis_host(each)) for each in sentinel.sentinels)
    return not are_local and not all(map(_is_verified_redis, (sentinel.server, *sentinel.sentinels)))


def _redis_host(url: str) -> str:
    """Return the host of a plain URL; without one, the client takes that of the options."""
    parts = urllib.parse.urlsplit(url)
    named = dict(urllib.parse.parse_qsl(parts.query)).get("host", "")
    return parts.netloc.rpartition("@")[2] if parts.hostname else named


def _is_verified_redis(url: str) -> bool:
    """Return whether a plain URL has TLS that verifies the server, or is that of a socket."""
    required = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query)).get("ssl_cert_reqs", "required")
    return url.startswith("unix://") or (url.startswith("rediss://") and required.lower() != "none")


def is_local(host: str) -> bool:
    """Return whether *host*, with or without a port, is this machine or a socket's path; no host is localhost."""
    name = urllib.parse.unquote(host)
    if name.startswith("/"):
        return True
    try:
        name = urllib.parse.urlsplit(f"//{name}").hostname or "localhost"
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def mongodb_warning(url: str) -> str:
    """Return what is accepted in the URL, but has a cost; empty for most URLs."""
    if mongodb_in_clear(url):
        return IN_CLEAR
    if any(name == "retrywrites" and value.lower() in OFF for name, value in _mongodb_options(url)):
        return "retryWrites=false: writes under way fail at an election; needed only for DocumentDB"
    return ""


def _mongodb_options(url: str) -> list[tuple[str, str]]:
    """Return the options, their names in lower case because the driver ignores it."""
    query = url.partition("?")[2].replace(";", "&")
    return [(name.lower(), value) for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True)]
