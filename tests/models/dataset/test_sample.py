from hypothesis import given
from hypothesis import strategies as st

from models.dataset.sample import Sample, hash_content, natural_order


def test_numbers_in_labels_sort_by_size():
    assert natural_order(["10", "2", "1", "class 11", "class 9"]) == ("1", "2", "10", "class 9", "class 11")


def test_case_does_not_part_neighbours():
    assert natural_order(["bee", "Ant", "ant", "Bee"]) == ("Ant", "ant", "Bee", "bee")


def test_leading_zeros_do_not_count():
    assert natural_order(["010", "9", "011", "10"]) == ("9", "010", "10", "011")


@given(st.lists(st.text(max_size=8)))
def test_the_order_is_total_whatever_came_first(labels):
    ordered = natural_order(labels)
    assert set(ordered) == set(labels)
    assert natural_order(reversed(labels)) == ordered


@given(st.integers(0, 10**40), st.integers(0, 10**40))
def test_labels_that_are_numbers_sort_as_numbers(one, other):
    assert natural_order([str(one), str(other)]) == tuple(map(str, sorted({one, other})))


def test_a_label_and_a_split_are_not_confused_in_the_hash():
    def sample(label, split):
        return Sample("0" * 64, label, split, "x.jpg", 1, 1, "RGB", "0" * 16)

    assert hash_content([sample("a", None)]) != hash_content([sample("a", "train")])
    assert hash_content([sample("null", None)]) != hash_content([sample("a", None)])


def test_a_newer_sample_with_more_fields_is_read():
    sample = Sample("0" * 64, "ant", "val", "x.jpg", 3, 2, "RGB", "f" * 16)
    assert Sample.from_dict(sample.to_dict() | {"caption": "an ant"}) == sample
