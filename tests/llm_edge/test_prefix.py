"""What was read already is not read again, and the state is never anything but what was asked."""

import numpy as np
import pytest

from llm_edge.engine import CanceledError
from llm_edge.prefix import LivePrefix, shared
from tests.llm_edge.crowds import Tally


@pytest.mark.parametrize(
    ("a", "b", "count"),
    [([], [], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 2], 2), ([1, 2], [3, 2], 0), ([], [1], 0)],
)
def test_shared_counts_from_the_beginning(a, b, count):
    assert shared(np.array(a), np.array(b)) == count


def test_any_sequence_of_prompts_reads_as_if_each_were_the_first():
    rng = np.random.default_rng(6)
    engine = Tally()
    prefix = LivePrefix(engine)
    tokens = rng.integers(0, 97, 150)
    for _ in range(60):
        tokens = tokens.copy()[: rng.integers(1, 151)]
        if rng.random() < 0.7:
            tokens = np.concatenate([tokens, rng.integers(0, 97, rng.integers(1, 50))])
        tokens = tokens[:200]
        logits = prefix.resume(tokens)
        fresh = Tally()
        np.testing.assert_array_equal(logits, fresh.feed(tokens))
        assert engine.read == tokens.tolist() == prefix.tokens.tolist()


def test_only_what_differs_is_read():
    engine = Tally()
    prefix = LivePrefix(engine)
    prompt = np.arange(90) % 97
    prefix.resume(prompt[:70])
    prefix.resume(prompt)
    assert engine.fed == 90
    prefix.resume(prompt)  # the last one again, for its logits
    assert engine.fed == 91


def test_what_was_read_before_a_cancel_stays_read():
    engine = Tally()
    prefix = LivePrefix(engine)
    prompt = np.arange(90) % 97
    engine.cancel_after = 2
    with pytest.raises(CanceledError):
        prefix.resume(prompt, step=20)
    assert prefix.tokens.tolist() == prompt[:40].tolist() == engine.read
    prefix.resume(prompt, step=20)
    assert engine.fed == 90
