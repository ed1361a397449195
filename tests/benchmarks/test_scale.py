"""The reckoning of a fleet, and that what it is reckoned from can be measured."""

import pytest

from benchmarks.scale import FULL, Costs, Image, measure, most_workers, reckon, table

COSTS = Costs(
    transit_us=50,
    transit_bytes=220_000,
    broker_us=120,
    idle_commands=1,
    idle_us=100,
    beat_us=10,
    look_redis_us=1,
    look_gateway_us=15,
    look_bytes=400,
)


def test_the_rate_grows_with_workers_and_their_cores() -> None:
    one = reckon(1, COSTS, Image(worker_ms=10), cores=1)
    assert one.rate == pytest.approx(100 * FULL)
    assert reckon(7, COSTS, Image(worker_ms=10), cores=3).rate == pytest.approx(21 * one.rate)


def test_there_are_gateways_for_the_rate_and_for_looking_at_the_workers() -> None:
    fleet = reckon(100, COSTS, Image(worker_ms=10, gateway_ms=2))
    assert fleet.looks_of_gateway == pytest.approx(100 * 15 / 0.25 / 1e6)
    needed = fleet.rate * 2e-3
    assert (fleet.gateways - 1) * (FULL - fleet.looks_of_gateway) < needed
    assert needed <= fleet.gateways * (FULL - fleet.looks_of_gateway)


def test_larger_images_fill_the_link_and_looks_grow_with_workers_times_gateways() -> None:
    small, large = (
        reckon(10, Costs(**{**vars(COSTS), "transit_bytes": size}), Image()) for size in (20_000, 200_000)
    )
    assert large.transit_link > 8 * small.transit_link
    few, many = (reckon(workers, COSTS, Image()) for workers in (10, 100))
    assert many.beats_core > 30 * few.beats_core


def test_what_is_full_stands_out() -> None:
    lines = table([reckon(1, COSTS, Image()), reckon(1000, COSTS, Image())]).splitlines()
    assert "**" not in lines[2]
    assert "**" in lines[3]


def test_the_first_thing_that_is_full_is_named() -> None:
    most, full = most_workers(COSTS, Image(), cores=4)
    assert full == "transit Redis, link"
    assert max(reckon(most, COSTS, Image(), cores=4).full.values()) <= FULL
    small_images = Costs(**{**vars(COSTS), "transit_bytes": 2_000})
    more, full = most_workers(small_images, Image(), cores=4)
    assert (more > most, full) == (True, "transit Redis, core")


def test_images_are_shared_by_the_transit_servers_and_heartbeats_are_not() -> None:
    one, four = (reckon(100, COSTS, Image(), servers=servers) for servers in (1, 4))
    assert four.transit_core == pytest.approx(one.transit_core / 4)
    assert one.transit_link / 4 < four.transit_link < one.transit_link / 3
    assert (four.beats_core, four.broker_core) == pytest.approx((one.beats_core, one.broker_core), rel=0.1)
    assert four.looks_of_gateway == pytest.approx(4 * one.looks_of_gateway)
    most = [most_workers(COSTS, Image(), cores=4, servers=servers) for servers in (1, 4, 64)]
    assert most[1][0] > 3 * most[0][0]
    # More and more of them move the limit to what they do not share.
    assert most[2][1] == "broker Redis, core"


@pytest.mark.timeout(90)
def test_every_cost_can_be_measured() -> None:
    costs = measure(Image(size=50_000), workers=40, images=200, messages=40, idle_s=1.0)
    assert 100_000 < costs.transit_bytes < 110_000
    assert 0 < costs.transit_us < 10_000
    assert 0 < costs.broker_us < 50_000
    assert 0.5 < costs.idle_commands < 20
    assert 0 < costs.beat_us < 5_000
    assert 0 < costs.look_gateway_us < 5_000
    assert 200 < costs.look_bytes < 2_000
