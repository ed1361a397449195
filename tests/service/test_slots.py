"""What holds a place for long is so many at once; one key leaves a quarter of the places to others."""

from contextlib import ExitStack

import pytest
from support.api_keys import api_key

from service.errors import Problem
from service.slots import upload_slots

SLOW, OTHER = api_key("slow"), api_key("other")


def test_without_keys_every_slot_can_be_had_and_no_more() -> None:
    slots = upload_slots(4)
    with ExitStack() as held:
        for _ in range(4):
            held.enter_context(slots.one(None))
        with pytest.raises(Problem, match="4 uploads are under way, which is the limit") as caught:
            held.enter_context(slots.one(None))
        assert (caught.value.status, caught.value.code) == (429, "too_many_uploads")
        assert "Retry-After" in caught.value.headers
    with slots.one(None):
        pass


def test_one_key_leaves_slots_to_others() -> None:
    slots = upload_slots(4)
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(slots.one(SLOW))
        with pytest.raises(Problem, match="3 uploads are under way with this key, and the other 1 of 4 are kept"):
            held.enter_context(slots.one(SLOW))
        held.enter_context(slots.one(OTHER))
        with pytest.raises(Problem, match="which is the limit"):
            held.enter_context(slots.one(OTHER))
    with slots.one(SLOW):
        pass


def test_a_single_slot_is_any_keys() -> None:
    with upload_slots(1).one(SLOW):
        pass
