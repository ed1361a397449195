"""Images without influence: left out all at once, they change no answer."""

import numpy as np
import torch
from support.clouds import clouds, contents

from models.diagnosis.held_out import leave_each_out
from models.diagnosis.influence import MOST_ERROR, find_without_influence
from models.training.linear import fit_head


def test_without_them_a_head_answers_the_same() -> None:
    embedding, targets = clouds(100, classes=3, spread=0.55)
    found = find_without_influence(leave_each_out(embedding, targets, contents(300), np.arange(3)))
    assert 30 < len(found.rows) < 290
    assert found.errors.max() <= MOST_ERROR
    kept = np.setdiff1d(np.arange(300), found.rows)
    new, truth = (torch.from_numpy(part) for part in clouds(300, classes=3, spread=0.55, seed=1))
    answers = []
    for rows in (np.arange(300), kept):
        shown, labels = torch.from_numpy(embedding[rows])[None], torch.from_numpy(targets[rows])
        head = fit_head(shown, labels, 3, seed=0, groups=contents(len(rows)))
        answers.append((new @ head.weight.T + head.bias).argmax(1))
    assert float((answers[0] == answers[1]).float().mean()) > 0.98
    assert float((answers[1] == truth).float().mean()) > 0.9


def test_an_image_that_is_taken_for_something_else_has_influence() -> None:
    embedding, targets = clouds(40, spread=0.2)
    wrong = targets.copy()
    wrong[3] = 1
    judged = leave_each_out(embedding, wrong, contents(120), np.arange(3))
    assert 3 not in find_without_influence(judged).rows
