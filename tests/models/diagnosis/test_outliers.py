"""Images like none of their class."""

import numpy as np
from support.clouds import clouds

from models.diagnosis.neighbours import find_neighbours
from models.diagnosis.outliers import CUT, find_outliers


def test_an_image_of_something_else_is_the_first_and_those_of_the_class_are_not_named() -> None:
    embedding, targets = clouds(60, spread=0.3)
    embedding[7] = -embedding[7]
    found = find_outliers(find_neighbours(embedding, targets), targets)
    assert found.places[0] == 7
    assert found.scores[0] > 2 * CUT
    assert len(found.places) <= 5
    assert found.checked == 180


def test_of_a_class_of_few_nobody_can_say_what_is_usual() -> None:
    embedding, targets = clouds(9)
    embedding[0] = -embedding[0]
    found = find_outliers(find_neighbours(embedding, targets), targets)
    assert (found.places.tolist(), found.checked) == ([], 0)


def test_where_all_are_the_same_none_is_unlike() -> None:
    embedding, targets = np.ones((20, 4), np.float32), np.zeros(20, np.int64)
    assert len(find_outliers(find_neighbours(embedding, targets), targets).places) == 0
