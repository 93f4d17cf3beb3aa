"""Draws docs/images/world.jpg: four moments of the embedded world, the target's box in green."""

import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bridges.world import AerialWorld, WorldConfig


def shot(world: AerialWorld, index: int) -> np.ndarray:
    seen = world.render(index)
    sensor = world.sensor
    color = cv2.cvtColor(seen.frame.image, cv2.COLOR_BayerRGGB2BGR).astype(np.float32)
    linear = (color - sensor.black_level) / (sensor.white_level - sensor.black_level)
    balanced = np.clip(linear * (1 / 0.62, 1.0, 1 / 0.56) * 1.2, 0, 1)
    picture = (balanced ** (1 / 2.2) * 255).astype(np.uint8)
    box = seen.boxes[world.target_id]
    if np.isfinite(box).all():
        x, y, w, h = np.round(box).astype(int)
        cv2.rectangle(picture, (x - 3, y - 3), (x + w + 2, y + h + 2), (80, 220, 60), 2)
    return cv2.resize(picture, (640, 360), interpolation=cv2.INTER_AREA)


day, night = (AerialWorld(WorldConfig(seed=0, night=dark)) for dark in (False, True))
rows = [[shot(day, 100), shot(day, 192)], [shot(day, 830), shot(night, 100)]]
sheet = np.vstack([np.hstack(row) for row in rows])
cv2.imwrite(str(Path(__file__).with_suffix(".jpg")), sheet, [cv2.IMWRITE_JPEG_QUALITY, 62])
