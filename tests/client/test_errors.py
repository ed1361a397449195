"""The tree of errors is complete: whatever the service can say has a class of its own kind."""

import pickle

import pytest
from support.told import statuses_and_codes

import fovea_client
from fovea_client import ApiError, FoveaError, ImageFailed, InvalidRequest, ServerError, errors
from fovea_client.errors import CLASS_OF_CODE, CLASS_OF_STATUS, OF_ONE_IMAGE, class_of
from service.errors import STATUS_OF_WORKER_CODE


def test_each_status_that_the_service_answers_with_has_a_class() -> None:
    assert set(CLASS_OF_STATUS) == {status for status, _ in statuses_and_codes()}


def test_each_code_in_the_narrower_table_is_one_of_the_service_and_narrows_its_status() -> None:
    told = {code: status for status, code in statuses_and_codes()}
    for code, kind in CLASS_OF_CODE.items():
        assert issubclass(kind, CLASS_OF_STATUS[told[code]])
        assert class_of(told[code], code) is kind


@pytest.mark.parametrize(("status", "code"), sorted(statuses_and_codes()))
def test_whatever_the_service_says_is_raised_as_more_than_an_api_error(status: int, code: str) -> None:
    kind = class_of(status, code)
    assert issubclass(kind, ApiError)
    assert kind is not ApiError


def test_what_a_newer_service_may_say_has_the_class_of_its_hundred() -> None:
    assert class_of(402, "unheard_of") is InvalidRequest
    assert class_of(599, "unheard_of") is ServerError
    assert class_of(409, "unheard_of") is errors.Conflict


def test_what_is_said_of_one_image_is_known_to_be() -> None:
    assert {*STATUS_OF_WORKER_CODE, "too_large"} == OF_ONE_IMAGE


def test_the_docstring_draws_the_whole_tree_and_all_of_it_is_exported() -> None:
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, FoveaError)
    }
    drawn = [line for line in (errors.__doc__ or "").splitlines() if any(mark in line for mark in "├└")]
    assert {line.strip("│├└─ ").split()[0] for line in drawn} == set(kinds) - {"FoveaError"}
    assert set(kinds) <= set(fovea_client.__all__)


def test_an_error_goes_through_a_pickle() -> None:
    error = errors.NotFound("unknown_model", "There is no model 'x'.", 404, "r1", ({"field": "a"},), 2.0)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.errors, again.retry_after_s) == (
        type(error), str(error), error.errors, 2.0,
    )  # fmt: skip
    assert str(pickle.loads(pickle.dumps(ImageFailed("not_an_image", "no")))) == "no (not_an_image)"
