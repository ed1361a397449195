"""Which transit servers a setting names, which of them has a key, and what is done about one that is away."""

from collections import Counter
from collections.abc import Iterator

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from support.redis import RedisServer, running_transit_servers

from workers.inference.quarantine import Quarantine, image
from workers.redis_url import InvalidRedisUrl, check, connect, server_of
from workers.transit import Transit, UnknownServer, place, transit_servers

A, B, C = "redis://:secret@a:6379/0", "rediss://b/1", "unix:///run/c.sock?db=0"
SENTINELS = "sentinel://:secret@h1:26379,h2:26379/0?master_name=transit"


def test_a_list_names_its_servers_in_its_order() -> None:
    servers = transit_servers(f"{A}, {B},{C} ,{SENTINELS}")
    assert [server.url for server in servers] == [A, B, C, SENTINELS]
    assert [server.number for server in servers] == [1, 2, 3, 4]
    assert len({server.name for server in servers}) == 4
    assert "secret" not in repr(servers)


def test_one_url_is_one_server_also_with_commas_in_it() -> None:
    for url in (A, SENTINELS, "redis://:a,b@h/0", "rediss://h/0?ssl_ciphers=x,y", "unix:///run/a,b.sock"):
        (server,) = transit_servers(url)
        assert server.url == url


@pytest.mark.parametrize(
    "spelling", ["redis://A", "redis://a:6379", "rediss://:other@a/0", "redis://a:6379/0?health_check_interval=5"]
)
def test_a_server_has_its_name_however_it_is_reached_and_wherever_it_stands(spelling: str) -> None:
    assert transit_servers(f"{B},{spelling}")[1].name == transit_servers(A)[0].name
    assert transit_servers("redis://a/1")[0].name != transit_servers(A)[0].name


def test_sentinels_in_another_order_call_the_same_master() -> None:
    other = "sentinel://h2:26379,h1:26379/0?master_name=transit"
    assert server_of(other) == server_of(SENTINELS)


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        ("", "URL 1 of 1 in '' is empty"),
        (f"{A},", "URL 2 of 2 in 'redis://a:6379/0,' is empty: remove the comma or write it"),
        (f",{A}", "URL 1 of 2"),
        (f"{A},,{B}", "URL 2 of 3 in 'redis://a:6379/0,,rediss://b/1' is empty"),
        (f"{A},b:6379", "'b:6379' after the comma in 'redis://a:6379/0,b:6379' is no URL"),
        (f"{A},http://b:6379", "The Redis URL http://b:6379 cannot be read"),
        (f"{A},amqp://:secret@b", "The Redis URL amqp://b cannot be read"),
        (f"{A},{B},redis://a:6379/0", "URLs 1 and 3 name the same server, redis://a:6379/0"),
        (f"{A},redis://:secret@a:6379/1", "URLs 1 and 2 name the same server, redis://a:6379/1; name each once"),
        (f"{A},sentinel://h1", "does not say which master"),
    ],
)
def test_a_list_that_cannot_be_meant_is_refused_with_the_item_and_without_a_password(
    urls: str, words: str
) -> None:
    with pytest.raises(InvalidRedisUrl) as refused:
        transit_servers(urls)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_broker_is_one_server() -> None:
    for url in (f"{A},{B}", f"{A},"):
        with pytest.raises(InvalidRedisUrl) as refused:
            check(url)
        assert "secret" not in str(refused.value)
    with pytest.raises(InvalidRedisUrl, match="names 2 servers where one is expected; only FOVEA_TRANSIT_URL"):
        connect(f"{A},{B}")


def test_keys_are_spread_evenly_and_stay_where_they_are_when_a_server_comes_or_goes() -> None:
    names = [server.name for server in transit_servers("redis://a,redis://b,redis://c,redis://d")]
    keys = [f"key-{number}" for number in range(2000)]
    where = {key: place(key, names) for key in keys}
    assert where == {key: place(key, names[::-1]) for key in keys}
    assert all(400 < count < 600 for count in Counter(where.values()).values())
    fewer = {key: place(key, names[1:]) for key in keys}
    assert {key for key in keys if fewer[key] != where[key]} == {key for key in keys if where[key] == names[0]}


@pytest.fixture
def servers() -> Iterator[list[RedisServer]]:
    with running_transit_servers(2) as started:
        yield started


def test_a_worker_knows_its_servers_and_leaves_one_alone_that_was_away(servers: list[RedisServer]) -> None:
    transit = Transit.open(",".join(server.url for server in servers))
    first, second = transit.names
    for name, expected in (("", first), (second, second)):
        with transit.at(name) as client:
            assert client is transit.clients[expected]
    with (
        pytest.raises(UnknownServer, match="Every process needs the same list"),
        transit.at("other"),
    ):
        pass
    servers[0].kill()
    with pytest.raises(RedisConnectionError), transit.at(first) as client:
        client.ping()
    with pytest.raises(RedisConnectionError, match="was away a moment ago"), transit.at(first):
        pass
    with transit.at(second) as client:
        assert client.ping()


def test_one_server_is_meant_by_any_name_and_always_tried(servers: list[RedisServer]) -> None:
    transit = Transit.open(servers[0].url)
    servers[0].kill()
    for _ in range(2):
        with pytest.raises(RedisConnectionError, match="fovea-redis-"), transit.at("whatever") as client:
            client.get("x")


def test_a_suspicion_is_known_wherever_the_image_comes_by_next(servers: list[RedisServer]) -> None:
    transit = Transit.open(",".join(server.url for server in servers))
    quarantine = Quarantine(transit, "w1")
    quarantine.convict(image(b"bad"), "SIGSEGV")
    for name in transit.names:
        (found, nothing) = quarantine.suspicions([b"bad", b"good"], name)
        assert found is not None
        assert (found.convicted, nothing) == (True, None)
    # One that is away learns nothing, and keeps nobody from the others.
    servers[0].kill()
    quarantine.clear(image(b"bad"))
    assert quarantine.suspicions([b"bad"], transit.names[1]) == [None]
    assert quarantine.is_model_suspected("models/m/1") is False


def test_what_a_dead_worker_had_in_hand_is_suspected_on_every_server(servers: list[RedisServer]) -> None:
    transit = Transit.open(",".join(server.url for server in servers))
    with Redis.from_url(servers[1].url) as second:
        second.set("i1", b"deadly")
        second.hset("fovea:hand:dead", "b1", '{"images": ["i1"], "artifact": "models/m/1/"}')
    quarantine = Quarantine(transit, "w2")
    quarantine.suspect_the_hands_of_the_dead()
    assert all(quarantine.suspicions([b"deadly"], name) != [None] for name in transit.names)
