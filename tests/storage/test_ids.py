import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from storage.ids import made_at, new_id


def test_an_id_is_a_prefix_and_a_ulid() -> None:
    assert re.fullmatch(r"job_[0-7][0-9A-HJKMNP-TV-Z]{25}", new_id("job"))


def test_ids_made_later_sort_later() -> None:
    ids = [new_id("job") for _ in range(5000)]

    assert ids == sorted(set(ids))


def test_ids_of_many_threads_are_all_different() -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = [made for some in pool.map(lambda _: [new_id("job") for _ in range(500)], range(8)) for made in some]

    assert len(set(ids)) == 4000


def test_an_id_begins_with_the_time_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    text = new_id("job").removeprefix("job_")[:10]
    milliseconds = 0
    for character in text:
        milliseconds = milliseconds * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character)

    assert before <= milliseconds <= time.time_ns() // 1_000_000


def test_the_time_an_id_was_made_can_be_read_from_it() -> None:
    before = datetime.now(UTC)
    assert before - timedelta(milliseconds=1) <= made_at(new_id("job")) <= datetime.now(UTC)
    for text in ("", "job_", "job_123", "job_" + "I" * 26, "checkpoints"):
        assert made_at(text) == datetime.fromtimestamp(0, UTC)
