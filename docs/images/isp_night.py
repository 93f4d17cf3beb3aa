"""Draws docs/images/isp-night.jpg: a RAW frame at night, as each ISP gives it to a detector."""

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bridges.world import AerialWorld, WorldConfig
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from isp.sensor import PROFILES, bayer, linear_light
from isp.task_aware import TaskAwareIsp
from pipeline.frame import Frame

GRID, ZOOM = (416, 234), (slice(40, 157), slice(80, 288))
profile = PROFILES["small-12"]
day = ClassicalIsp(IspConfig()).process(AerialWorld(WorldConfig(seed=0)).render(192).frame).image
light = linear_light(day, profile)
mosaic = bayer(light, profile, 0.05, 16, np.random.default_rng(0))
raw = Frame(mosaic, 0, f"bayer_rggb{profile.bits}")
config = IspConfig(black_level=(float(profile.black),), color_matrix=profile.matrix)
bright = replace(config, exposure_gain=6.0)
classical = ClassicalIsp(bright).process(raw).image
views = TaskAwareIsp(config, lambda size: GRID).develop(raw, ("detector",))
shown = {
    "day": day,
    "night, classical, brightened": cv2.resize(classical, GRID, interpolation=cv2.INTER_LINEAR),
    "night, task-aware": views["detector"].image,
}
tiles = []
for name, rgb in shown.items():
    small = cv2.resize(rgb, GRID, interpolation=cv2.INTER_AREA)[ZOOM]
    tile = cv2.resize(small[..., ::-1], None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    cv2.putText(tile, name, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
    tiles.append(tile)
cv2.imwrite(str(Path(__file__).with_name("isp-night.jpg")), np.hstack(tiles), [1, 85])
