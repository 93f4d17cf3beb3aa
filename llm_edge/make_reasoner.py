"""A reasoner of its options, which stand under these names in parameter files and ``--set``."""

from collections.abc import Mapping

from llm_edge.fast import FastConfig
from llm_edge.governor import GovernorConfig
from llm_edge.reasoner import Reasoner, ReasonerConfig
from llm_edge.remote import RemoteConfig
from llm_edge.slow import SlowConfig
from pipeline.clock import Clock
from pipeline.config import Config

STAGES: dict[str, type[Config]] = {
    "reasoner": ReasonerConfig,
    "reasoner_fast": FastConfig,
    "reasoner_slow": SlowConfig,
    "reasoner_remote": RemoteConfig,
    "governor": GovernorConfig,
}


def make_reasoner(configs: Mapping[str, Config], clock: Clock) -> Reasoner:
    """configs: by the names of ``STAGES``; others are not looked at.

    Raises:
        InputError: as ``Reasoner``.
    """
    parts = [configs[name] for name in STAGES if name != "governor"]
    return Reasoner(parts[0], clock, *parts[1:])  # type: ignore[arg-type]
