"""A reasoner of its options, which stand under these names in parameter files and ``--set``."""

from collections.abc import Mapping
from dataclasses import replace

from llm_edge.fast import FastConfig
from llm_edge.governor import GovernorConfig
from llm_edge.reasoner import Reasoner, ReasonerConfig
from llm_edge.remote import RemoteConfig
from llm_edge.rhythm import RhythmConfig
from llm_edge.slow import SlowConfig
from pipeline.clock import Clock
from pipeline.config import Config

STAGES: dict[str, type[Config]] = {
    "reasoner": ReasonerConfig,
    "reasoner_fast": FastConfig,
    "reasoner_slow": SlowConfig,
    "reasoner_remote": RemoteConfig,
    "reasoner_rhythm": RhythmConfig,
    "governor": GovernorConfig,
}


def make_reasoner(configs: Mapping[str, Config], clock: Clock, *, apart: bool = False) -> Reasoner:
    """configs: by the names of ``STAGES``; others are not looked at. apart: the decoder runs in a
    process of its own where ``reasoner.fast`` is auto.

    Raises:
        InputError: as ``Reasoner``.
    """
    first, *parts = (configs[name] for name in STAGES if name != "governor")
    if apart and isinstance(first, ReasonerConfig) and first.fast == "auto":
        first = replace(first, fast="process")
    return Reasoner(first, clock, *parts)  # type: ignore[arg-type]
