"""Records in bits: what goes in comes out, in as few as it takes."""

import numpy as np
import pytest

from comms.bits import Reader, Writer, widths_of
from comms.reasons import Reason, Rejected


@pytest.mark.parametrize("seed", range(20))
def test_what_goes_in_comes_out(seed):
    rng = np.random.default_rng(seed)
    n, fields = int(rng.integers(0, 40)), int(rng.integers(1, 30))
    signed = rng.random(fields) < 0.5
    high = 1 << rng.integers(0, 40, fields)
    values = rng.integers(np.where(signed, -high, 0), high, (n, fields))
    widths = widths_of(values, signed)
    out = Writer()
    out.put(5, 3)
    out.put(-3, 7)
    for number in (0, -1, 1, 2**31, -(2**31), 12345):
        out.put_long(number)
    data = out.done(values, widths)
    got = Reader(data)
    assert (got.take(3), got.take(7, True)) == (5, -3)
    assert [got.take_long() for _ in range(6)] == [0, -1, 1, 2**31, -(2**31), 12345]
    assert (got.records(n, widths.tolist(), signed) == values).all()


def test_widths_are_what_the_largest_needs():
    values = np.array([[0, 1, 4, -1, 3, -4, 0], [0, 0, 7, 0, -4, -5, 2**40]])
    signed = np.array([True, False, False, True, True, True, False])
    assert widths_of(values, signed).tolist() == [0, 1, 3, 1, 3, 4, 41]
    assert widths_of(values[:0], signed).tolist() == [0] * 7


def test_the_widest_fields_keep_every_bit():
    values = np.array([[2**61 + 1, -(2**61) + 3, 1], [2**62 - 1, 2**61 - 1, 0]])
    data = Writer().done(values, np.array([62, 62, 1]))
    assert (Reader(data).records(2, [62, 62, 1], [False, True, False]) == values).all()


def test_numbers_of_a_head_come_at_once_or_one_by_one():
    data = bytes(range(1, 8))
    one_by_one = Reader(data)
    widths = [3, 0, 17, 8, 1]
    assert Reader(data).take_all(widths) == [one_by_one.take(w) for w in widths]
    with pytest.raises(Rejected):
        Reader(data).take_all([50, 7])


def test_too_few_or_too_many_bytes_are_malformed():
    values = np.array([[5, 9], [1, 15]])
    data = Writer().done(values, np.array([3, 4]))
    signed = [False, False]
    assert len(data) == 2
    for wrong in (data[:-1], data + b"\0"):
        with pytest.raises(Rejected) as caught:
            Reader(wrong).records(2, [3, 4], signed)
        assert caught.value.reason is Reason.MALFORMED
    with pytest.raises(Rejected):
        Reader(b"\1").take(9)
