"""The study of following late: its table, report page and video come from what was flown."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bridges.traffic import TrafficConfig
from bridges.world import WorldConfig
from evaluation.follow_study import (
    FOLLOW,
    PURSUIT,
    Case,
    Study,
    cases,
    flight_of,
    markdown,
    report,
    rows,
)
from evaluation.follow_target import Outcome
from evaluation.follow_video import write_comparison
from isp.config import IspConfig
from perception.tracker import TrackerConfig
from pipeline.errors import InputError

SHORT = replace(PURSUIT, seconds=1.5, hand_over_s=2.0)
TOWN = Study("town", TrafficConfig(blocks=2, vehicles=8, people=0, parked=0), pursuit=SHORT)


def test_the_oracle_is_flown_once_a_seed():
    found = cases(("stale", "oracle"), (0.0, 300.0), 7)
    assert found == [Case("stale", 0.0, 7), Case("stale", 300.0, 7), Case("oracle", 0.0, 7)]


def test_a_row_is_median_and_quartiles_of_its_cell_and_counts_the_lost():
    nan = float("nan")
    results = [
        (Case("stale", 300.0, s), Outcome(error, view, lost))
        for s, (error, view, lost) in enumerate(
            [(1.0, 1.0, nan), (2.0, 0.5, 3.0), (3.0, 0.25, 1.0), (4.0, 0.0, 0.0), (5.0, 1.0, nan)]
        )
    ] + [(Case("oracle", 0.0, 0), Outcome(0.1, 1.0, nan))]
    assert rows(results) == [
        ("stale", "300", "5", "3.00 (2.00 to 4.00)", "50 (25 to 100)", "3 of 5"),
        ("oracle", "any", "1", "0.10 (0.10 to 0.10)", "100 (100 to 100)", "0 of 1"),
    ]
    assert markdown(results).count("\n") == 3
    page = report(results, TOWN, "<command>", {"seeds": 5}, "follow.mp4")
    assert "3 of 5" in page and page.count("<svg") == 1 and "&lt;command&gt;" in page
    assert "follow.mp4" in page and "<script" not in page


def test_flights_of_a_world_without_pictures_are_flown_by_noisy_truth():
    outcome = flight_of(TOWN, Case("oracle", 300.0, 1)).fly()
    assert outcome.error_deg < 0.5 and outcome.in_view == 1.0


def test_a_real_tracker_keeps_a_car_in_view():
    world = WorldConfig(vehicles=6, people=0, occlusions=False)
    study = Study(
        "embedded", world, "tracker", SHORT, FOLLOW, tracker=TrackerConfig("kcf"), isp=IspConfig()
    )
    outcome = flight_of(study, Case("forecast", 0.0, 101)).fly()
    assert outcome.in_view == 1.0 and outcome.error_deg < 2.5


def test_a_video_shows_both_flights_side_by_side(tmp_path):
    world = WorldConfig(vehicles=6, people=0, occlusions=False)
    pursuit = replace(SHORT, width=160, height=120, seconds=0.5)
    study = Study("embedded", world, pursuit=pursuit)
    count = write_comparison(tmp_path / "v.mp4", study, 300.0, 101, ("stale", "forecast"))
    video = cv2.VideoCapture(str(tmp_path / "v.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == count >= 15
    picture = video.read()[1]
    assert picture.shape == (120, 320, 3) and np.ptp(picture) > 100


def test_a_world_without_pictures_has_no_video(tmp_path):
    with pytest.raises(InputError, match="camera"):
        write_comparison(tmp_path / "v.mp4", TOWN, 300.0, 1, ("stale", "forecast"))
