"""Whatever pydantic finds is told as a path and as what was given and what was expected."""

from collections.abc import Iterator
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from models.validation import MOST_FAULTS, InvalidField, InvalidFields, invalid_fields


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = Field(1, ge=1)
    kind: Literal["a", "b"] = "a"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    inner: Inner | None = None
    list_of: list[Inner] = Field(default_factory=list)

    @field_validator("name")
    @classmethod
    def _no_spaces(cls, name: str) -> str:
        if " " in name:
            raise ValueError("a name without spaces")
        return name


def invalid(value: object, root: str = "") -> InvalidFields:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    return invalid_fields(caught.value.errors(), Outer, root)


def faults(value: object, root: str = "") -> list[InvalidField]:
    found = invalid(value, root)
    assert found.more == 0
    return list(found.faults)


def test_what_is_missing_is_named() -> None:
    assert faults({}) == [InvalidField("name", "it is missing, and has no default")]


def test_the_path_begins_at_the_root_that_is_given() -> None:
    assert [fault.field for fault in faults({"name": "n", "inner": {"size": 0}}, "body")] == ["body.inner.size"]


def test_what_was_given_and_what_was_expected_is_said() -> None:
    (fault,) = faults({"name": "n", "inner": {"size": 0}})
    assert str(fault) == "inner.size: got 0, expected a value greater than or equal to 1"
    (fault,) = faults({"name": "n", "inner": {"kind": "c"}})
    assert str(fault) == "inner.kind: got 'c', expected 'a' or 'b'"
    (fault,) = faults({"name": "n", "inner": 7})
    assert str(fault) == "inner: got 7, expected an object of fields"
    (fault,) = faults({"name": "two words"})
    assert str(fault) == "name: got 'two words', expected a name without spaces"


def test_a_field_that_there_is_not_is_answered_with_the_most_similar() -> None:
    (fault,) = faults({"name": "n", "list_of": [{"siez": 3}]})
    assert (fault.field, fault.message) == ("list_of.0.siez", "there is no such field; did you mean size?")
    (fault,) = faults({"name": "n", "zzz": 3})
    assert fault.message == "there is no such field; the fields are inner, list_of, name"


@pytest.mark.parametrize("value", ["x" * 1000, [[["x" * 1000]] * 1000], 10**1000])
def test_a_long_value_is_shown_in_part(value: object) -> None:
    (fault,) = faults({"name": "n", "inner": value})
    assert len(fault.message) < 150


def test_a_value_that_is_as_deep_as_json_may_be_is_shown_in_part() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    (fault,) = faults({"name": "n", "inner": deep})
    assert len(fault.message) < 150


def test_a_long_name_of_a_field_is_shown_in_part() -> None:
    (fault,) = faults(
        {
            "name": "n",
            "x" * 1000: 1,
        }
    )
    assert len(fault.field) < 100
    (fault,) = faults({"name": "n", "list_of": [{"x" * 1000: 1}]})
    assert fault.field.startswith("list_of.0.xxx")
    assert len(fault.field) < 100


def test_of_many_faults_the_first_are_named_and_the_others_counted() -> None:
    found = invalid({"name": "n", **{f"f{n:05d}": 0 for n in range(5000)}})
    assert [fault.field for fault in found.faults] == [f"f{n:05d}" for n in range(MOST_FAULTS)]
    assert found.more == 5000 - MOST_FAULTS
    assert str(found).endswith("; and 4,980 more")


def test_what_is_not_named_is_not_put_into_words() -> None:
    def worded() -> Iterator[InvalidField]:
        for n in range(MOST_FAULTS):
            yield InvalidField(str(n), "wrong")
        raise AssertionError("one more than is shown")

    assert InvalidFields.first_of(worded(), 80_000).more == 80_000 - MOST_FAULTS
