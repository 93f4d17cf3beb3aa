"""Width, height, step and pixel of a file without header, from its bytes."""

import numpy as np
import pytest

from bridges.world import AerialWorld, WorldConfig
from isp.dump_layout import guess_layouts
from pipeline.errors import InputError


@pytest.fixture(scope="module")
def mosaics():
    made = {}

    def render(bits):
        if bits not in made:
            config = WorldConfig(encoding=f"bayer_grbg{bits}", width=800, height=600, seed=5)
            made[bits] = AerialWorld(config).render(2).frame.image
        return made[bits]

    return render


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("kind", ["plain", "left", "big-endian", "padded"])
def test_the_layout_is_found_from_the_bytes(mosaics, bits, kind):
    mosaic = mosaics(bits)
    pixel = 1 if bits == 8 else 2
    stored, step = mosaic, 800 * pixel
    if kind == "left":
        stored = mosaic << (8 * pixel - bits)
    elif kind == "big-endian":
        stored = mosaic.byteswap()
    elif kind == "padded":
        stored, step = np.pad(mosaic, ((0, 0), (0, 32))), step + 32 * pixel
    data = stored.tobytes()
    layout = guess_layouts(data)[0]
    assert (layout.size, layout.pixel, layout.step) == ((800, 600), str(8 * pixel), step)
    assert layout.big_endian == (kind == "big-endian" and bits > 8)
    expected = mosaic << (8 * pixel - bits) if kind == "left" else mosaic
    np.testing.assert_array_equal(layout.read(data), expected)


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("padding", [0, 64])
def test_mipi_packing_is_recognized(mosaics, pack, bits, padding):
    step = 800 * bits // 8 + padding
    data = pack(mosaics(bits), bits, step)
    layout = guess_layouts(data)[0]
    assert (layout.size, layout.pixel, layout.step) == ((800, 600), f"{bits}p", step)
    np.testing.assert_array_equal(layout.read(data), mosaics(bits))


def test_what_is_told_is_kept(mosaics):
    data = mosaics(12).tobytes()
    (layout,) = guess_layouts(data, size=(800, 600))
    assert (layout.pixel, layout.step) == ("16", 1600)
    assert guess_layouts(data, step=1600)[0].size == (800, 600)
    assert guess_layouts(data, pixel="8", size=(1600, 600))[0].size == (1600, 600)
    padded = np.pad(mosaics(12), ((0, 0), (0, 8))).tobytes()
    (layout,) = guess_layouts(padded, size=(800, 600))
    assert layout.step == 1616


@pytest.mark.parametrize(
    ("change", "told", "text"),
    [
        (lambda data: data[:-777], {}, "cut short or has a header"),
        (lambda data: bytes(100) + data, {}, "cut short or has a header"),
        (lambda data: data[:-777], {"size": (800, 600)}, "do not hold a size of 800x600"),
        (lambda data: data, {"step": 1601}, "do not hold a step of 1601"),
        (lambda data: data, {"size": (0, 0)}, "do not hold a size of 0x0"),
        (lambda data: data, {"size": (2000, 600)}, "do not hold a size of 2000x600"),
        (lambda data: b"", {}, "0 bytes are no picture"),
        (lambda data: bytes(len(data)), {}, "no width makes a picture"),
        (lambda data: np.random.default_rng(0).bytes(len(data)), {}, "no width makes a picture"),
        (lambda data: b"To be, or not to be.\n" * 5000, {}, "it holds text"),
    ],
)
def test_bytes_without_a_layout_are_refused_in_one_line(mosaics, change, told, text):
    with pytest.raises(InputError, match=text) as caught:
        guess_layouts(change(mosaics(12).tobytes()), **told)
    assert "\n" not in str(caught.value)
