"""The loss judge alone, on answers made by hand."""

import numpy as np
import pytest

from perception.engine import RawAnswer
from perception.loss import LossJudge
from pipeline.tracks import TrackStatus

T, U, L = TrackStatus.TRACKED, TrackStatus.UNCERTAIN, TrackStatus.LOST
BOX = np.array([100.0, 80.0, 40.0, 30.0])
SIZE = (640, 480)


def judged(answers, lost_after=3):
    judge = LossJudge(uncertain_ratio=0.75, lost_ratio=0.5, lost_after=lost_after)
    judge.start(BOX)
    return [judge.judge(a, SIZE) for a in answers]


def scored(*scores):
    return [RawAnswer(BOX, s, True) for s in scores]


@pytest.mark.parametrize("level", [1.0, 0.3, 0.04])
def test_scores_are_judged_against_the_targets_own_usual_level(level):
    scores = level * np.array([1, 0.9, 0.6, 1, 0.4, 0.4, 0.4, 0.4, 0.9])
    assert judged(scored(*scores)) == [T, T, U, T, U, U, L, L, T]


@pytest.mark.parametrize("lost_after", [1, 2, 5])
def test_a_target_is_lost_after_as_many_doubts_as_configured(lost_after):
    found = judged(scored(1, *[0.1] * 6), lost_after)
    assert found.index(L) == lost_after


def test_a_single_good_answer_clears_the_doubts():
    assert judged(scored(1, 0.1, 0.1, 1, 0.1, 0.1, 1)) == [T, U, U, T, U, U, T]


def test_an_engine_that_says_no_is_believed_at_once():
    assert judged([*scored(1), RawAnswer(BOX, 0.0, False), *scored(1)]) == [T, L, T]


@pytest.mark.parametrize(
    "box",
    [
        [700, 80, 40, 30],
        [-39, 80, 40, 30],
        [100, 80, 40 * 2.2, 30],
        [100, 80, 40, 30 / 2.2],
        [100, 80, 1.5, 1.5],
        [np.nan, 80, 40, 30],
        [100, 80, np.inf, 30],
    ],
)
def test_an_implausible_box_is_doubted_whatever_its_score(box):
    wrong = RawAnswer(np.array(box, np.float64), 1.0, True)
    assert judged([*scored(1), wrong, wrong, wrong]) == [T, U, U, L]


def test_slow_growth_is_plausible():
    answers = [RawAnswer(BOX * [1, 1, s, s], 1.0, True) for s in np.geomspace(1, 6, 12)]
    assert set(judged(answers)) == {T}


def test_a_level_that_sinks_slowly_is_followed():
    assert L not in judged(scored(*np.geomspace(1, 0.3, 120)))


def test_a_score_of_zero_from_the_first_answer_is_lost_not_a_crash():
    assert judged(scored(0.0, 0.0, 0.0)) == [U, U, L]
