"""Decisions as messages and back, and what a reasoner says of itself."""

import math
from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from leadsight_msgs import msg as own

from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source, Word
from llm_edge.scene import Scene
from llm_edge.tally import Fare
from pipeline.errors import InputError
from ros_nodes.messages import header

_WORDS: dict[str, type[Word]] = {
    "action": Action, "direction": Direction, "risk": Risk, "reason": Reason, "source": Source,
}  # fmt: skip
LEAST_MET = 0.99


def decision_message(
    decision: Decision,
    scene: Scene,
    named: tuple[int, int] | None,
    frame_id: str,
    ready_ns: int,
    late: bool,
) -> own.Decision:
    """leadsight_msgs/Decision. named: station and id of what the decision is about."""
    words = {
        name: list(kind).index(getattr(decision, name))  # type: ignore[arg-type]
        for name, kind in _WORDS.items()
    }
    station, identity = named or (0, own.Decision.NO_TARGET)
    return own.Decision(
        header=header(max(scene.seen_ns, 0), frame_id),
        ready_ns=ready_ns,
        at_ns=scene.at_ns,
        valid_until_ns=decision.valid_until_ns,
        speed=decision.speed_mps,
        target_station=station,
        target_id=identity,
        late=late,
        **words,
    )


def decision_of(message: own.Decision) -> Decision:
    """The target is the message's ``target_id``, whatever its station.

    Raises:
        InputError: a value that none of its words has, or a speed that is none.
    """
    words = {}
    for name, kind in _WORDS.items():
        value, known = getattr(message, name), list(kind)
        if value >= len(known):
            raise InputError(f"Decision.{name} is {value}: know 0 to {len(known) - 1} only")
        words[name] = known[value]
    if not 0 <= message.speed < math.inf:
        raise InputError("Decision.speed is no speed; its sender is at fault")
    target = None if message.target_id == own.Decision.NO_TARGET else message.target_id
    return Decision(
        target=target, speed_mps=message.speed, valid_until_ns=message.valid_until_ns, **words
    )


def diagnostics_of(
    name: str, fare: Fare, skipped: int, pace: str, tiers: Mapping[str, str], silent_s: float = 0.0
) -> DiagnosticStatus:
    """WARN where deadlines are missed, no decision comes, or one that is asked cannot work.

    skipped: turns without one. silent_s: since the last decision, where one was due; 0 where not.
    pace: what the governor says. tiers: state of each that is asked.
    """
    shown = {
        "deadline met [%]": 100 * fare.met,
        "fallback [%]": 100 * fare.fallback,
        "refused [%]": 100 * fare.refused,
        "goodput [1/s]": fare.goodput_hz,
        "first token p50 [ms]": fare.first_token_ms,
        "decoder, a token [ms]": fare.token_ms,
        "decision p50 [ms]": fare.took_ms,
        "decision p99 [ms]": fare.took_p99_ms,
    }
    problem = ""
    if not fare.answers:
        problem = "no decision yet"
    elif silent_s:
        problem = f"no decision for {silent_s:.0f} s"
    elif fare.met < LEAST_MET:
        problem = f"{100 * (1 - fare.met):.1f} % of the decisions late"
    else:
        problem = next((f"{n} {s}" for n, s in tiers.items() if s.startswith("failed")), "")
    values = {k: "–" if math.isnan(v) else f"{v:.2f}" for k, v in shown.items()}
    values |= {"turns without one": str(skipped), "pace": pace, **tiers}
    return DiagnosticStatus(
        level=DiagnosticStatus.WARN if problem else DiagnosticStatus.OK,
        name=name,
        message=problem or "deciding",
        hardware_id="leadsight",
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
