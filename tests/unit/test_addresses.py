"""Every form of an address is read as what it means, or refused by a sentence that names the setting."""

from __future__ import annotations

import pytest

from gristmill.addresses import QdrantAddress, RedisAddress
from gristmill.settings import ClientSettings
from gristmill_schemas.errors import InvalidInput

HOME = (("localhost", 6379),)


def redis_of(url: str) -> RedisAddress:
    return ClientSettings(redis_url=url).redis_address


def qdrant_of(url: str) -> QdrantAddress:
    return ClientSettings(qdrant_url=url).qdrant_address


@pytest.mark.parametrize(
    ("url", "hosts", "database"),
    [
        ("redis://localhost", HOME, 0),
        ("redis:///3", HOME, 3),
        ("redis://localhost/3/", HOME, 3),
        ("redis://localhost?db=3", HOME, 3),
        ("redis://localhost/3?db=3", HOME, 3),
        ("REDIS://localhost", HOME, 0),
        ("  redis://localhost/1\n", HOME, 1),
        ("redis://:6380", (("localhost", 6380),), 0),
        ("redis://[::1]:7/1", (("::1", 7),), 1),
        ("redis://[::1]", (("::1", 6379),), 0),
    ],
)
def test_a_redis_url_says_host_port_and_database(url: str, hosts: object, database: int) -> None:
    address = redis_of(url)
    assert (address.hosts, address.database, address.path, address.tls) == (hosts, database, None, False)


@pytest.mark.parametrize(
    "url",
    [
        "unix:///run/redis@1.sock?db=2",
        "redis+socket:///run/redis@1.sock?virtual_host=2",
        "unix://miller:p%40ss@/run/redis%401.sock?db=2",
    ],
)
def test_a_socket_is_named_as_redis_or_as_celery_names_it(url: str) -> None:
    address = redis_of(url)
    assert (address.path, address.database, address.hosts) == ("/run/redis@1.sock", 2, ())


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("redis://miller:rye@h", ("miller", "rye")),
        ("redis://:rye@h", (None, "rye")),
        ("redis://miller@h", ("miller", None)),
        ("redis://m%40ller:%40%3A%2F%3F%23%25%2B+%20%3B@h", ("m@ller", "@:/?#%++ ;")),
        ("redis://:p@ss:w;rd[1]@h", (None, "p@ss:w;rd[1]")),
        ("redis://:schl%C3%BCssel@h", (None, "schlüssel")),
        ("redis://h?username=miller&password=a%2Bb%40c", ("miller", "a+b@c")),
        ("unix:///x.sock?password=rye", (None, "rye")),
    ],
)
def test_a_login_is_decoded_once(url: str, login: tuple[str | None, str | None]) -> None:
    address = redis_of(url)
    assert (address.username, address.password) == login
    assert address.password is None or address.password not in repr(address) + address.label


def test_options_of_tls_are_read_as_redis_or_as_celery_writes_them() -> None:
    for value in ("none", "CERT_NONE"):
        address = redis_of(f"rediss://h?ssl_cert_reqs={value}&ssl_check_hostname=false&socket_timeout=1.5")
        assert address.tls
        assert address.options == {"ssl_cert_reqs": "none", "ssl_check_hostname": False, "socket_timeout": 1.5}


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://:rye@h1,h2:1/2?master_name=mill&sentinel_password=oats",
        "sentinel://:rye@h1;sentinel://:rye@h2:1/2?master_name=mill&sentinel_password=oats",
    ],
)
def test_sentinels_stand_in_one_url_or_in_celerys_list_of_urls(url: str) -> None:
    address = redis_of(url)
    assert address.hosts == (("h1", 26379), ("h2", 1))
    assert (address.master, address.database, address.password) == ("mill", 2, "rye")
    assert address.sentinel_login == {"password": "oats"}
    assert redis_of("sentinels://h?master_name=mill").tls


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:6379", "a URL such as redis://host:6379/0"),
        ("amqp://h", "a URL such as redis://host:6379/0"),
        ("redis://h:port", "a port between 1 and 65535"),
        ("redis://h:70000", "a port between 1 and 65535"),
        ("redis://h:0", "a port between 1 and 65535"),
        ("redis://::1:6379", "in brackets"),
        ("redis://ho st", "without blanks"),
        ("redis://h/0\r\nredis://g/0", "without blanks"),
        ("redis://h/abc", "one number of a database"),
        ("redis://h/-1", "one number of a database"),
        ("redis://h/0/1", "one number of a database"),
        ("redis://h/1?db=2", "one number of a database"),
        ("redis://h?db=1&db=2", "once"),
        ("redis://:pa/ss@h", "%2F"),
        ("redis://:pa?ss@h", "%3F"),
        ("redis://:pa#ss@h", "%23"),
        ("redis://:p@s/s@h", "%2F"),
        ("redis://:50%off@h", "%25"),
        ("redis://:%ff@h", "UTF-8"),
        ("unix://:pa/ss@/x.sock", "%2F"),
        ("unix://run/x.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("redis://a,b", "sentinel://host1:26379,host2:26379"),
        ("sentinel://a,b", "master_name="),
        ("redis://a?master_name=mill", "sentinel://"),
        ("redis+sentinel://a?master_name=mill", "sentinel://"),
        ("redis-cluster://h", "Redis Cluster"),
        ("valkey://h", "write redis://"),
        ("redis://h?ssl_cert_reqs=none", "rediss://"),
        ("rediss://h?ssl_cert_reqs=maybe", "required, optional or none"),
        ("redis://h?socket_timeout=never", "seconds"),
        ("redis://h?socket_timeout=-1", "seconds"),
        ("redis://h?retries=1", "not retries"),
    ],
)
def test_what_a_redis_url_cannot_mean_is_refused_with_what_was_expected(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match="GRISTMILL_REDIS_URL") as refused:
        ClientSettings(redis_url=url)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("url", "tls", "host", "port", "prefix"),
    [
        ("http://h", False, "h", 6333, ""),
        ("https://h", True, "h", 443, ""),
        ("https://h:6333", True, "h", 6333, ""),
        ("https://h/", True, "h", 443, ""),
        ("https://h/vectors/blue/", True, "h", 443, "/vectors/blue"),
        ("HTTPS://h//vectors", True, "h", 443, "/vectors"),
        (" http://h:1/ \n", False, "h", 1, ""),
        ("http://[::1]:6333", False, "[::1]", 6333, ""),
    ],
)
def test_a_qdrant_url_says_host_port_and_prefix(url: str, tls: bool, host: str, port: int, prefix: str) -> None:
    assert qdrant_of(url) == QdrantAddress(tls, host, port, prefix, None)


def test_a_login_in_a_qdrant_url_is_for_the_proxy_before_it() -> None:
    assert qdrant_of("https://miller:p%40ss@h/q").login == ("miller", "p@ss")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("h:6333", "a URL such as http://host:6333"),
        ("ftp://h", "a URL such as http://host:6333"),
        ("http://", "one host"),
        ("http://:6333", "one host"),
        ("http://a,b", "one host"),
        ("http://h:0", "a port between 1 and 65535"),
        ("http://::1:6333", "in brackets"),
        ("http://h?api_key=x", "GRISTMILL_QDRANT_API_KEY"),
        ("http://h#x", "%23"),
        ("http://h:6333/dashboard", "dashboard"),
        ("http://h\nhost", "without blanks"),
    ],
)
def test_what_a_qdrant_url_cannot_mean_is_refused_with_what_was_expected(url: str, says: str) -> None:
    with pytest.raises(InvalidInput, match="GRISTMILL_QDRANT_URL") as refused:
        ClientSettings(qdrant_url=url)
    assert says in str(refused.value)
