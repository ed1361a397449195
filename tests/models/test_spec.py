import json
from typing import Any

import pytest

from models.errors import InvalidPreprocessing
from models.spec import Preprocessing


def test_preprocessing_survives_its_json() -> None:
    preprocessing = Preprocessing(height=299, width=224, resize=342, fit="squash", interpolation="bicubic")
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


def test_fields_of_a_later_release_are_ignored() -> None:
    assert Preprocessing.from_dict({"height": 32, "mood": "good"}) == Preprocessing(height=32)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"height": 0}, "at least 1"),
        ({"height": 299, "width": 299}, "resize=256 is smaller than the 299x299"),
        ({"fit": "stretch"}, "'crop', 'squash'"),
        ({"interpolation": "cubic"}, "'bicubic'"),
        ({"mean": (0.5,)}, "three values"),
        ({"std": (0.2, 0.0, 0.2)}, "std > 0"),
    ],
)
def test_what_describes_no_view_is_refused_with_the_fix(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidPreprocessing, match=reason):
        Preprocessing(**values)


def test_a_squashed_view_needs_no_resize() -> None:
    assert Preprocessing(height=299, width=299, fit="squash").resize == 256
