"""What the shipped decoder may say next: a table, so that every answer is a decision by form.

The names of the fields are forced and are read together with the value before them (jump-forward):
an answer takes one step a field. What stands in a value depends on the scene and on the values
before: a target is in the scene, an evasion goes to an open side, who stops or holds has speed 0.
"""

import numpy as np

from llm_edge import coding, words
from llm_edge.coding import Coded, Ints
from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source
from llm_edge.policy import OF_MISSION
from llm_edge.scene import Mission, Scene
from llm_edge.thought import Answers
from llm_edge.words import FIRST, IDS

_ACTIONS, _DIRECTIONS = list(Action), list(Direction)


class AnswerGrammar:
    """The values that are allowed for one scene, field by field.

    scenes: of one scene (B = 1).
    """

    def __init__(self, scenes: Coded) -> None:
        count = int(scenes.count[0])
        lost = int(scenes.state[0]) >= 3
        mission = Mission(int(scenes.mission[0]))
        open_sides = [side for side, is_open in ((1, scenes.left[0]), (2, scenes.right[0]))
                      if is_open]  # fmt: skip
        actions = [
            k for k, action in enumerate(_ACTIONS)
            if OF_MISSION.get(action, mission) is mission
            and not (action is Action.EVADE and not open_sides)
            and not (action is Action.SEARCH and not lost)
            and not (action is Action.FOLLOW and not scenes.followed[0])
        ]  # fmt: skip
        slots = [k + 1 for k in range(count) if scenes.kind[0, k] != coding.BLIND]
        self._action = FIRST["action"] + np.array(actions)
        self._target = FIRST["target"] + np.array([0, *slots])
        self._open = open_sides
        self._top = coding.RUNGS
        self._fixed = {
            "risk": FIRST["risk"] + np.arange(len(Risk)),
            "reason": FIRST["reason"] + np.arange(len(Reason)),
        }

    def allowed(self, field: str, action: int | None = None) -> Ints:
        """Ids that may be the value of ``field``.

        action: id of the action's value, once it is there; direction and speed depend on it.
        """
        if field == "action":
            return self._action
        if field == "target":
            return self._target
        if field in self._fixed:
            return self._fixed[field]
        chosen = None if action is None else _ACTIONS[action - FIRST["action"]]
        if field == "direction":
            if chosen is Action.EVADE:
                sides = self._open
            elif chosen in (Action.FOLLOW, Action.SEARCH):
                sides = [0, *self._open]
            else:
                sides = [0]
            return FIRST["direction"] + np.array(sides)
        top = 0 if chosen in (Action.STOP, Action.HOLD) else self._top
        return FIRST["rung"] + np.arange(top + 1)


def answers_from(values: Ints) -> Answers:
    """Ids of the six values (B, 6), in the order of ``words.FIELDS``, as what they mean."""
    firsts = {name: FIRST["rung" if name == "speed" else name] for name in words.FIELDS}
    return Answers(**{name: values[:, k] - first for k, (name, first) in enumerate(firsts.items())})


def decision_of(
    answers: Answers, scenes: Coded, scene: Scene, valid_until_ns: int, source: Source
) -> Decision:
    """The first answer in the scene's own terms: ids instead of slots, m/s instead of sixteenths,
    of which those of the mission's speed and of the present one mean just these."""
    slot = int(answers.target[0])
    row = int(scenes.rows[0, slot - 1]) if slot else -1
    rung, limit = int(answers.speed[0]), scene.platform.limit_mps
    speed_mps = rung / coding.RUNGS * limit
    for told, exact in ((scenes.cruise, scene.cruise_mps), (scenes.speed, scene.speed_mps)):
        if rung == int(told[0]) and rung:
            speed_mps = min(exact, limit)
            break
    return Decision(
        action=_ACTIONS[int(answers.action[0])],
        target=int(scene.ids[row]) if row >= 0 else None,
        direction=_DIRECTIONS[int(answers.direction[0])],
        speed_mps=speed_mps,
        risk=list(Risk)[int(answers.risk[0])],
        reason=list(Reason)[int(answers.reason[0])],
        valid_until_ns=valid_until_ns,
        source=source,
    )


class ThoughtGrammar:
    """What may follow in a thought: the wish, slot by slot what is left after it, the best.

    next: the kind of word whose turn it is: wish, slot, news, aside, meets, best, done.
    """

    def __init__(self, scenes: Coded) -> None:
        self._count = int(scenes.count[0])
        self._slot = 0
        self.next = "wish"

    def allowed(self) -> tuple[int, int]:
        """Ids from the first to before the second; after the best one only ``DONE``."""
        if self.next == "done":
            return IDS[words.DONE], IDS[words.DONE] + 1
        if self.next == "slot":
            return FIRST["slot"] + self._slot, FIRST["slot"] + self._slot + 1
        if self.next == "news":  # "same" stands before the first of "straight"
            return IDS["same"], FIRST["straight"] + 16
        return FIRST[self.next], FIRST[self.next] + len(words.TABLE[self.next])

    def take(self, token: int) -> bool:
        """Go on by a token that was allowed; whether the thought is complete."""
        if token == IDS[words.DONE]:
            return True
        if self.next == "slot":
            self._slot += 1
            self.next = "news"
        elif self.next == "news" and token != IDS["same"]:
            self.next = "aside"
        elif self.next in ("aside", "best"):
            self.next = {"aside": "meets", "best": "done"}[self.next]
        else:
            self.next = "slot" if self._slot < self._count else "best"
        return False
