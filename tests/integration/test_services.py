"""The test servers themselves: they start, die, freeze and come back with their data."""

import contextlib
from collections.abc import Callable

import pytest
import redis
from qdrant_client import models

from services import QdrantServer, RedisServer, ServerError, free_port

MakeRedis = Callable[..., RedisServer]
MakeQdrant = Callable[..., QdrantServer]


def test_no_port_is_given_out_twice() -> None:
    """A server that is down for a while finds its own port again."""
    given = [free_port(together=2) for _ in range(100)]
    assert len({*given, *(port + 1 for port in given)}) == 200


def test_redis_keeps_its_data_and_port_over_a_kill(make_redis: MakeRedis) -> None:
    server = make_redis(appendfsync="always")
    url = server.url
    with contextlib.closing(server.client()) as client:
        client.set("grain", "rye")
    server.kill()
    assert not server.running
    server.start()
    assert server.url == url
    with contextlib.closing(server.client()) as client:
        assert client.get("grain") == b"rye"


def test_redis_does_not_evict(redis_server: RedisServer) -> None:
    with contextlib.closing(redis_server.client()) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_redis_with_a_password_refuses_whoever_lacks_it(make_redis: MakeRedis, tls: bool) -> None:
    server = make_redis(password="miller", tls=tls)
    with contextlib.closing(server.client()) as client:
        assert client.ping()
    anonymous = redis.Redis.from_url(server.url.replace(":miller@", ""))
    with contextlib.closing(anonymous), pytest.raises(redis.AuthenticationError):
        anonymous.ping()


def test_a_tls_redis_is_trusted_by_its_own_certificate_only(make_redis: MakeRedis) -> None:
    server = make_redis(tls=True)
    stranger = redis.Redis.from_url(server.url.split("?")[0])
    with contextlib.closing(stranger), pytest.raises(redis.ConnectionError, match="certificate"):
        stranger.ping()


def test_a_paused_redis_answers_again_after_resume(make_redis: MakeRedis) -> None:
    server = make_redis()
    server.pause()
    assert server.running
    assert not server.is_ready()
    server.resume()
    server.wait_ready()


def test_a_paused_server_can_be_stopped(make_redis: MakeRedis) -> None:
    server = make_redis()
    server.pause()
    server.stop()
    assert not server.running


def test_a_server_that_dies_at_start_shows_its_last_words(make_redis: MakeRedis) -> None:
    with pytest.raises(ServerError, match=r"exited with code 1.*\n[\s\S]*maxmemory-policy"):
        make_redis(maxmemory_policy="burn")


def test_each_test_has_an_empty_redis_database(redis_url: str, redis_server: RedisServer) -> None:
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        assert client.dbsize() == 0
    assert redis_url != redis_server.url


def test_qdrant_keeps_its_data_and_port_over_a_kill(make_qdrant: MakeQdrant, collection_name: str) -> None:
    server = make_qdrant()
    before = (server.url, server.grpc_port)
    with contextlib.closing(server.client()) as client:
        create(client.create_collection, collection_name)
    server.kill()
    server.start()
    assert (server.url, server.grpc_port) == before
    with contextlib.closing(server.client()) as client:
        assert client.collection_exists(collection_name)


def test_a_read_only_key_of_qdrant_reads_and_does_not_write(make_qdrant: MakeQdrant, collection_name: str) -> None:
    server = make_qdrant(api_key="miller", read_only_key="visitor")
    with contextlib.closing(server.client()) as owner:
        create(owner.create_collection, collection_name)
    with contextlib.closing(server.client(api_key="visitor")) as visitor:
        assert visitor.collection_exists(collection_name)
        with pytest.raises(Exception, match=r"(?i)permission|forbidden"):
            visitor.delete_collection(collection_name)


def test_a_collection_of_one_test_is_gone_in_the_next(qdrant_server: QdrantServer, collection_name: str) -> None:
    with contextlib.closing(qdrant_server.client()) as client:
        create(client.create_collection, collection_name)
        create(client.create_collection, f"{collection_name}-2")
    qdrant_server.drop_collections(collection_name)
    with contextlib.closing(qdrant_server.client()) as client:
        names = [collection.name for collection in client.get_collections().collections]
    assert not [name for name in names if name.startswith(collection_name)]


def create(create_collection: Callable[..., bool], name: str) -> None:
    create_collection(name, vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE))
