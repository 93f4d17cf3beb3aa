import cv2
import numpy as np
import pytest

from evaluation.data import data_root, find_data


@pytest.fixture
def data():
    """A path under the shared data, or a skip that names it."""

    def find(*parts):
        path = find_data(*parts)
        if path is None:
            pytest.skip(f"no {'/'.join(parts)} in {data_root()}; set LEADSIGHT_DATA")
        return path

    return find


@pytest.fixture
def otb(tmp_path):
    """A folder like OTB's: 24 pictures in img/ of a textured square on a textured ground."""
    rng = np.random.default_rng(3)

    def texture(height, width, cell):
        coarse = rng.integers(0, 255, (height // cell, width // cell, 3)).astype(np.uint8)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)

    ground, target = texture(120, 160, 10), texture(28, 36, 5)
    folder = tmp_path / "square"
    (folder / "img").mkdir(parents=True)
    lines = []
    for k in range(24):
        picture, x, y = ground.copy(), 10 + 4 * k, 12 + 2 * k
        picture[y : y + 28, x : x + 36] = target
        cv2.imwrite(str(folder / "img" / f"{k + 1:04d}.png"), picture)
        lines.append(f"{x},{y},36,28")
    (folder / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n")
    return folder
