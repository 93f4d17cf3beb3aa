from dataclasses import dataclass

import cv2
import numpy as np
import pytest

from evaluation.data import data_root, find_data
from pipeline.frame import Frame


def texture(rng, height, width, cell):
    """(height, width, 3) uint8: smooth random color, like a picture seen from afar."""
    coarse = rng.uniform(20, 235, (height // cell + 2, width // cell + 2, 3)).astype(np.float32)
    fine = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(fine, 0, 255).astype(np.uint8)


@dataclass
class Scene:
    """A textured square that moves (3, 2) px a frame over a textured ground."""

    ground: np.ndarray
    target: np.ndarray

    def box(self, k):
        height, width = self.target.shape[:2]
        return np.array([40 + 3 * k, 60 + 2 * k, width, height], np.float64)

    def frame(self, k, visible=True, target=None, at=None):
        image = self.ground.copy()
        x, y, w, h = (self.box(k) if at is None else at).astype(int)
        if visible:
            image[y : y + h, x : x + w] = self.target if target is None else target
        return Frame(image, k * 33_000_000, index=k)


@pytest.fixture
def scene_of():
    """A scene for each seed."""

    def make(seed):
        rng = np.random.default_rng(seed)
        return Scene(texture(rng, 240, 320, 11), texture(rng, 40, 52, 6))

    return make


@pytest.fixture
def scene(scene_of):
    return scene_of(0)


@pytest.fixture
def models():
    folder = find_data("models")
    if folder is None:
        pytest.skip(f"no tracker models (models/ in {data_root()}); set LEADSIGHT_DATA")
    return str(folder)


@pytest.fixture
def s0601():
    """Folder and truth file of the real clip UAVDT S0601."""
    folder = find_data("data", "tracking", "frames", "UAVDT", "S0601")
    truth = find_data("data", "tracking", "gt", "UAVDT", "S0601_gt.txt")
    if folder is None or truth is None:
        pytest.skip(f"no UAVDT S0601 (data/tracking in {data_root()}); set LEADSIGHT_DATA")
    return folder, truth
