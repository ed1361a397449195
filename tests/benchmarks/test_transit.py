"""What several transit servers cost can be measured."""

import pytest

from benchmarks.transit import measure, table


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_load_of_several_servers_is_measured_and_told() -> None:
    one, two = (measure(servers, batches=40, size=5000) for servers in (1, 2))
    assert one.shares == (1.0,)
    assert sum(two.shares) == pytest.approx(1)
    assert all(share > 0.2 for share in two.shares)
    assert 0 < two.busiest_us <= two.redis_us
    assert min(one.gateway_us, one.worker_us, one.rate) > 0
    head, _, *rows = table([[one, two], [two, one]]).splitlines()
    assert [row.count("|") for row in rows] == [head.count("|")] * 2
    assert rows[0].startswith("| 1 | 1.00 |")
