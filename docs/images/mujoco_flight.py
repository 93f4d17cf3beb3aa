"""Draws docs/images/mujoco-flight.jpg: a UAV in the MuJoCo town, 300 ms late, flown by stale
answers and by forecasts, at the same moment after the pilot who knew the truth let go."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bridges.mujoco_traffic import MujocoConfig
from evaluation.follow_study import Case, Study, flight_of
from evaluation.follow_video import draw_tick
from evaluation.pursuit_eyes import CAMERA
from evaluation.video import PREDICTED, STALE, TRUTH, draw_legend

ADDED_MS, SEED, AT_S = 300.0, int(sys.argv[1]) if len(sys.argv) > 1 else 4, 8.0
study = Study("mujoco", MujocoConfig(samples=4))
study = replace(study, pursuit=replace(study.pursuit, width=640, height=480, fov_deg=30.0))
shots = []
for arm in ("stale", "forecast"):
    flight = flight_of(study, Case(arm, ADDED_MS, SEED), pictures=True)
    for tick in flight.ticks():
        if tick.at_s >= AT_S:
            picture = tick.step.readings[CAMERA].value.bgr().copy()
            draw_tick(picture, flight, tick)
            legend = [("truth", TRUTH), ("stale", STALE), ("forecast", PREDICTED)]
            draw_legend(picture, legend, f"{arm} flies, 300 ms late, {tick.error_deg:.1f} deg off")
            shots.append(picture)
            break
    flight.close()
cv2.imwrite(str(Path(__file__).with_name("mujoco-flight.jpg")), np.hstack(shots), [1, 80])
