"""Sparse cells: round trips, sizes, and compressed bombs."""

from itertools import pairwise

import numpy as np
import pytest
import zstandard

from comms import features
from comms.envelope import Layer
from comms.features import Features, decode, encode
from comms.reasons import Reason, Rejected
from pipeline.errors import InputError
from tests.comms.made import NOW, envelope

AT = envelope(np.random.default_rng(0), layer=Layer.FEATURES)


def made(rng, n=300, channels=8, side=200):
    """n cells round (−50, 900), half of each value's channels zero."""
    flat = rng.permutation(side * side)[:n]
    cells = np.stack([flat % side - 50, flat // side + 900], 1).astype(np.int32)
    values = rng.normal(size=(n, channels)) * np.exp(rng.normal(size=channels))
    values *= rng.random(values.shape) < 0.5
    return Features(NOW, 0.4, cells, values.astype(np.float32))


def joined(parts):
    cells, values = (np.concatenate([getattr(p, k) for p in parts]) for k in ("cells", "values"))
    return cells, values


def refused(payload):
    with pytest.raises(Rejected) as caught:
        decode(payload, AT)
    assert caught.value.reason is Reason.MALFORMED


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("n", [1, 2, 37, 500, 3000])
@pytest.mark.parametrize("channels", [1, 3, 16])
def test_every_piece_fits_and_is_usable_alone_and_together_they_are_the_whole(bits, n, channels):
    rng = np.random.default_rng(n + channels)
    sent = made(rng, n, channels)
    payloads = encode(sent, bits, 1100)
    assert all(len(p) <= 1100 for p in payloads)
    parts = [decode(p, AT) for p in payloads]
    cells, values = joined(parts)
    assert len(cells) == n and all(p.cell_m == 0.4 and p.stamp_ns == NOW for p in parts)
    order, true = np.lexsort(cells.T), np.lexsort(sent.cells.T)
    assert (cells[order] == sent.cells[true]).all()
    step = np.abs(sent.values).max(axis=0) / (127 if bits == 8 else 7)
    assert (np.abs(values[order] - sent.values[true]) <= 0.502 * step + 1e-6).all()


def test_the_first_cells_are_in_the_first_pieces():
    sent = made(np.random.default_rng(1), 1500, 8)
    parts = [decode(p, AT) for p in encode(sent, 8, 1100)]
    assert len(parts) > 3
    first = {tuple(c) for c in sent.cells[: len(parts[0])]}
    assert {tuple(c) for c in parts[0].cells} == first


def test_no_cell_is_no_piece_and_bad_input_is_refused_by_name():
    rng = np.random.default_rng(2)
    sent = made(rng)
    assert encode(sent.selected(np.zeros(300, bool)), 8, 1100) == []
    with pytest.raises(InputError, match="8 or 4"):
        encode(sent, 5, 1100)
    with pytest.raises(InputError, match="takes"):
        encode(sent, 8, 30)
    with pytest.raises(InputError, match="side to side"):
        encode(made(rng, side=600), 8, 1100)
    for change in (
        {"cell_m": 0.123}, {"cell_m": 0.0}, {"cell_m": float("nan")},
        {"cells": sent.cells[:5]}, {"values": sent.values[:, :0]}, {"values": sent.values * np.nan},
    ):  # fmt: skip
        with pytest.raises(InputError, match="Features"):
            Features(**{"stamp_ns": NOW, "cell_m": 0.4, "cells": sent.cells,
                        "values": sent.values, **change})  # fmt: skip


def test_extreme_values_saturate():
    cells = np.array([[2**31 - 3, -(2**31)], [2**31 - 2, -(2**31)]], np.int32)
    sent = Features(NOW, 655.35, cells, np.array([[1e30, 1e-30], [-1e30, 0]], np.float32))
    got = decode(encode(sent, 8, 100)[0], AT)
    assert (got.cells == cells).all() and got.cell_m == 655.35
    assert np.allclose(got.values, [[65000, 0], [-65000, 0]], rtol=1e-3)


def test_cells_along_a_line_are_those_within_half_the_width():
    rng = np.random.default_rng(3)
    sent = made(rng, 2000)
    line = np.array([[-20.0, 360.0], [10.0, 380.0], [10.0, 380.0], [12.0, 430.0]])
    share = np.linspace(0, 1, 500)[:, None]
    dense = np.concatenate([a + (b - a) * share for a, b in pairwise(line)])
    apart = np.linalg.norm(sent.centers()[:, None] - dense, axis=2).min(axis=1)
    near = sent.along(line, 12.0)
    clear = np.abs(apart - 6) > 0.05
    assert (near == (apart <= 6))[clear].all() and 0 < near.sum() < 1000


def test_a_bomb_is_not_unpacked(monkeypatch):
    sent = made(np.random.default_rng(4), 20, 2, 40)
    payload = encode(sent, 8, 1100)[0]
    head = payload[: features._HEAD.size + 4]
    bomb = zstandard.ZstdCompressor().compress(bytes(200_000_000))
    assert len(bomb) < 20_000
    unpacked = []
    real = zstandard.ZstdDecompressor

    class Watched:
        def decompress(self, data, max_output_size):
            unpacked.append(max_output_size)
            return real().decompress(data, max_output_size=max_output_size)

    monkeypatch.setattr(zstandard, "ZstdDecompressor", Watched)
    refused(head + bomb)
    streaming = zstandard.ZstdCompressor().compressobj()  # says no size
    refused(head + streaming.compress(bytes(200_000_000)) + streaming.flush())
    assert not unpacked
    decode(payload, AT)
    assert unpacked and max(unpacked) < 300


def test_no_payload_raises_anything_but_malformed():
    rng = np.random.default_rng(5)
    for bits in (4, 8):
        payload = encode(made(rng, 60, 3), bits, 1100)[0]
        for end in range(len(payload)):
            refused(payload[:end])
        for _ in range(1500):
            wrong = bytearray(payload)
            for at in rng.integers(0, len(wrong), 2):
                wrong[at] ^= 1 << int(rng.integers(8))
            try:
                got = decode(bytes(wrong), AT)
            except Rejected as rejected:
                assert rejected.reason is Reason.MALFORMED
            else:
                assert len(got) == 60
