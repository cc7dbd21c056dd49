"""URLs of Redis and MongoDB: what is accepted, and what is refused by name."""

from typing import Any

import pydantic
import pymongo
import pymongo.read_preferences
import pytest

from indexing import settings
from indexing.settings import server_urls


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("readPreference=secondaryPreferred", "readPreference"),
        ("readpreference=NEAREST", "readPreference"),
        ("readPreference=primary&readPreference=secondary", "readPreference"),
        ("readPreferenceTags=dc:east", "readPreferenceTags"),
        ("maxStalenessSeconds=120", "maxStalenessSeconds"),
        ("journal=false", "journal"),
        ("w=1;j=false", "j"),
        ("wtimeoutMS=100", "wtimeoutMS"),
        ("WTIMEOUT=100", "wtimeout"),
        ("readConcernLevel=available", "readConcernLevel"),
        ("readConcernLevel=snapshot", "readConcernLevel"),
        ("readConcernLevel=linearizable", "readConcernLevel"),
    ],
)
def test_an_option_of_the_mongodb_url_is_refused_by_name_when_it_breaks_a_promise(option: str, name: str) -> None:
    """Reads would lag behind own writes, or a write be lost. The line shows no password."""
    with pytest.raises(pydantic.ValidationError) as refused:
        settings.MongoSettings(url=f"mongodb://me:hunter2@db.example.org/x?appName=a&{option}")

    (problem,) = refused.value.errors(include_input=False)
    assert f"must not contain {name}=" in problem["msg"]
    assert "hunter2" not in str(refused.value)


def test_every_refused_option_is_named_when_there_are_several() -> None:
    """As in the string that a console of DocumentDB gives, with more."""
    with pytest.raises(ValueError, match=r"readPreference=.*, journal="):
        server_urls.check_mongodb("mongodb://h/?tls=true&readPreference=secondaryPreferred&journal=false")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?readPreference=primary",
        "?readPreference=Primary&maxStalenessSeconds=-1",
        "?readConcernLevel=majority&journal=true",
        "?readConcernLevel=local&w=1&timeoutMS=5",
        "?retryWrites=true&replicaSet=rs0&authSource=admin",
        "?appName=readPreference%3Dsecondary",
    ],
)
def test_a_mongodb_url_is_accepted_when_its_options_keep_the_promises(query: str) -> None:
    """Defaults may be written out."""
    config = settings.MongoSettings(url=f"mongodb+srv://db.example.org/{query}")

    assert config.warning == ""


def test_a_warning_is_given_when_writes_are_not_retried() -> None:
    """DocumentDB has no retryable writes."""
    config = settings.MongoSettings(url="mongodb://h/?retryWrites=false&tls=true")

    assert config.warning.startswith("retryWrites=false: ")


def test_our_write_concern_and_timeout_win_when_the_url_names_others() -> None:
    """The driver prefers keywords to the URL."""
    options: dict[str, Any] = {"w": "majority", "timeoutMS": 10_000, "connect": False}
    with pymongo.MongoClient[dict[str, Any]]("mongodb://h/?w=0&timeoutMS=5", **options) as client:
        assert client.write_concern.document == {"w": "majority"}
        assert client.options.timeout == 10.0
        assert client.read_preference == pymongo.read_preferences.Primary()


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "rediss://:pw@example.org:6380/3?ssl_ca_certs=/ca.pem",
        "unix:///run/redis.sock?db=1",
        "redis+sentinel://a/main",
        "rediss+sentinel://user:p%40w@a:1,[::1],c:26380/main/2?sentinel_password=x",
    ],
)
def test_a_redis_url_is_accepted_when_it_names_one_primary_or_its_sentinels(url: str) -> None:
    """Each form of the documentation."""
    assert settings.RedisSettings(url=url, insecure=True).address


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1",
        "redis+cluster://a:1,b:2",
        "redis+sentinel://a",
        "redis+sentinel://a/",
        "redis+sentinel:///main",
        "redis+sentinel://a,,b/main",
        "redis+sentinel://a:port/main",
        "redis+sentinel://a:70000/main",
        "redis+sentinel://a/main/zero",
        "sentinel://a/main",
    ],
)
def test_a_redis_url_is_refused_when_it_has_another_form(url: str) -> None:
    """Nothing of it is shown: it may contain a password."""
    with pytest.raises(pydantic.ValidationError) as refused:
        settings.RedisSettings(url=url)

    assert url not in str(refused.value)


def test_a_sentinel_url_is_taken_apart_when_it_has_logins_and_tls() -> None:
    """TLS options apply to servers and Sentinels, other options and the login to the servers."""
    url = "rediss+sentinel://idx:p%40w@a,[::1]:7/my%20db/2?sentinel_username=s&sentinel_password=%2F%40&ssl_ca_certs=%2Fca"

    parts = server_urls.parse_sentinel(f"{url}&protocol=2")

    assert parts is not None
    assert parts.service == "my db"
    assert parts.server == "rediss://idx:p%40w@primary:6379/2?ssl_ca_certs=%2Fca&protocol=2"
    assert parts.sentinels == (
        "rediss://s:%2F%40@a:26379/?ssl_ca_certs=%2Fca",
        "rediss://s:%2F%40@[::1]:7/?ssl_ca_certs=%2Fca",
    )


def test_only_the_servers_speak_tls_when_the_sentinels_are_excepted() -> None:
    """As many Sentinels are."""
    parts = server_urls.parse_sentinel("rediss+sentinel://a/main?sentinel_tls=0&ssl_ca_certs=x")

    assert parts is not None
    assert (parts.server, parts.sentinels) == ("rediss://primary:6379/0?ssl_ca_certs=x", ("redis://a:26379/?",))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://u:secret@r.example.org:7000/1", "r.example.org:7000"),
        ("redis://:secret@r", "r:6379"),
        ("unix:///run/redis.sock?password=secret", "/run/redis.sock"),
        ("redis+sentinel://u:secret@a,b:1/main?sentinel_password=secret", "Sentinel a,b:1"),
    ],
)
def test_the_address_has_no_secret_when_it_is_shown(url: str, address: str) -> None:
    """Log lines name where Redis is expected."""
    assert settings.RedisSettings(url=url, insecure=True).address == address


IN_CLEAR = [
    "redis://cache:6379/0",
    "redis://:secret@10.0.0.1",
    "redis://user:secret@[fd00::1]:6379",
    "redis://127.0.0.1.example.org",
    "redis+sentinel://:secret@a,127.0.0.1/main",
    "rediss+sentinel://:secret@a/main?sentinel_tls=0",
    "rediss+sentinel://:secret@a/main?ssl_cert_reqs=none",
    "rediss://:secret@cache?ssl_cert_reqs=none",
    "redis:///0?host=cache",
]
PRIVATE = [
    "redis://127.0.0.1:6379/0",
    "redis://:secret@127.8.0.1",
    "redis://localhost",
    "redis://[::1]:6379",
    "redis://",
    "unix:///run/redis.sock",
    "rediss://cache",
    "redis+sentinel://127.0.0.1,localhost:1/main",
    "rediss+sentinel://a,b/main",
    "rediss+sentinel://a,b/main?ssl_check_hostname=false&ssl_cert_reqs=required",
    "rediss://127.0.0.1?ssl_cert_reqs=none",
]


@pytest.mark.parametrize("url", IN_CLEAR)
def test_a_redis_url_without_tls_is_refused_beyond_loopback_unless_allowed(url: str) -> None:
    """The problem shows no part of the URL; what is allowed has a warning."""
    with pytest.raises(pydantic.ValidationError, match="verified TLS; use rediss://, or set REDIS_INSECURE=1") as bad:
        settings.RedisSettings(url=url)

    assert "secret" not in str(bad.value)
    assert settings.RedisSettings(url=url, insecure=True).warning == server_urls.IN_CLEAR


@pytest.mark.parametrize("url", PRIVATE)
def test_a_redis_url_is_accepted_with_tls_or_on_loopback(url: str) -> None:
    """Sockets as well."""
    assert settings.RedisSettings(url=url).warning == ""


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://db",
        "mongodb://me:secret@db:27017,127.0.0.1/x?replicaSet=r",
        "mongodb://db/?tls=false",
        "mongodb+srv://me:secret@db.example.org/?ssl=false",
        "mongodb+srv://me:secret@db.example.org/?tlsInsecure=true",
        "mongodb://me:secret@db/?tls=true&tlsAllowInvalidCertificates=true",
    ],
)
def test_a_mongodb_url_without_tls_is_refused_beyond_loopback_unless_allowed(url: str) -> None:
    """The same."""
    with pytest.raises(pydantic.ValidationError, match="add tls=true to it, or set MONGODB_INSECURE=1") as bad:
        settings.MongoSettings(url=url)

    assert "secret" not in str(bad.value)
    assert settings.MongoSettings(url=url, insecure=True).warning == server_urls.IN_CLEAR


@pytest.mark.parametrize(
    "url",
    [
        "mongodb://127.0.0.1:27017",
        "mongodb://me:secret@localhost:1,[::1]:2/x",
        "mongodb://%2Ftmp%2Fmongodb-27017.sock/x",
        "mongodb://db/?tls=true",
        "mongodb://db/?SSL=true&w=majority",
        "mongodb+srv://db.example.org/x",
        "mongodb+srv://db.example.org/x?tlsAllowInvalidCertificates=false&tlsAllowInvalidHostnames=true",
    ],
)
def test_a_mongodb_url_is_accepted_with_tls_or_on_loopback(url: str) -> None:
    """A URL of the form mongodb+srv has TLS by default."""
    assert settings.MongoSettings(url=url).warning == ""


@pytest.mark.parametrize("rest", [" ", "\t", " \n", "\ufeff", "\u00a0", "\x00"], ids=repr)
@pytest.mark.parametrize("is_first", [False, True], ids=["after", "before"])
def test_a_url_is_refused_when_it_has_blanks_or_control_characters(
    rest: str,
    is_first: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """A driver would read them as part of a name or password; nothing of the URL is shown."""
    for group, url in (
        (settings.RedisSettings, "redis://me:secret@127.0.0.1:1/0"),
        (settings.MongoSettings, "mongodb://me:secret@127.0.0.1:1/?authSource=admin"),
    ):
        with pytest.raises(pydantic.ValidationError, match="must not begin or end") as refused:
            group(url=f"{rest}{url}" if is_first else f"{url}{rest}")

        assert "secret" not in str(refused.value)
