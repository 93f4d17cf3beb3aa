"""The shipped decoder's vocabulary, and a coded scene in its words.

A word is a token. A scene reads: what the platform can do, the mission, the way it is now, then
each object in a slot of its own, the most relevant first. Words never contain anything from
outside, so a scene cannot say anything but a scene.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from llm_edge import coding, lookahead
from llm_edge.coding import Coded, Ints
from llm_edge.decision import Action, Direction, Reason, Risk
from llm_edge.scene import LinkState, Mission
from llm_edge.windows import EDGES, ROLES, SPANS, windows_of
from pipeline.objects import ObjectClass

START, THINK, DONE = "scene", "think", "done"
FIELDS = ("action", "direction", "speed", "target", "reason", "risk")
"""Of the answer, in this order; each name is a word of its own, followed by its value."""
END = "end"


def _numbered(name: str, values: Sequence[float] | np.ndarray) -> list[str]:
    return [f"{name}{v:g}" for v in values]


_MANEUVERS = [f"{lookahead.SIDES[s]}_{lookahead.LEVELS[v]}" for s, v in lookahead.MANEUVERS]
_SPANS = [(EDGES[i], EDGES[j]) for i, j in SPANS]
_KINDS = [*(c.name.lower() for c in ObjectClass), "blind"]
TABLE: dict[str, list[str]] = {
    "stop": _numbered("stop", coding.STOP_S),
    "shift": _numbered("shift", coding.SHIFT_S),
    "mission": [m.name.lower() for m in Mission],
    "cruise": _numbered("cruise", range(coding.RUNGS + 1)),
    "state": [f"target_{s}" for s in coding.STATES],
    "link": [f"link_{s.name.lower()}" for s in LinkState],
    "left": ["left_shut", "left_open"],
    "right": ["right_shut", "right_open"],
    "speed": _numbered("speed", range(coding.RUNGS + 1)),
    "up": _numbered("up", range(coding.RUNGS + 1)),
    "down": _numbered("down", range(coding.RUNGS + 1)),
    "slot": _numbered("o", range(1, coding.SLOTS + 1)),
    "kind": [*(f"seen_{k}" for k in _KINDS), *(f"told_{k}" for k in _KINDS)],
    "gap": _numbered("gap", coding.GAP_S),
    "side": _numbered("side", coding.SIDE),
    "along": _numbered("along", coding.ALONG),
    "drift": _numbered("drift", coding.DRIFT),
    "long": _numbered("long", coding.LONG_S),
    "extent": [f"wide{w:g}spread{s:g}" for w in coding.WIDE for s in coding.SPREAD],
    **{role: [f"{role}_never", *(f"{role}_{a:g}_{b:g}s" for a, b in _SPANS)] for role in ROLES},
    **{kind: [f"{kind}_{maneuver}" for maneuver in _MANEUVERS] for kind in ("wish", "best")},
    "same": ["same"],
    "straight": [f"straight{k:04b}" for k in range(16)],
    "aside": [f"aside{k:06b}" for k in range(64)],
    "meets": [
        "meets_none",
        *(f"meets_o{k}_{t}s" for k in range(1, 9) for t in range(1, lookahead.LATEST + 1)),
    ],
    "field": [*FIELDS, END],
    "action": [f"do_{a}" for a in Action],
    "target": ["on_none", *_numbered("on_o", range(1, coding.SLOTS + 1))],
    "direction": [f"to_{d}" for d in Direction],
    "rung": _numbered("at", range(coding.RUNGS + 1)),
    "risk": [f"risk_{r}" for r in Risk],
    "reason": [f"for_{r}" for r in Reason],
}
"""Kind of word → its words."""
WORDS: tuple[str, ...] = ("pad", START, THINK, DONE, *(w for ws in TABLE.values() for w in ws))
IDS: dict[str, int] = {word: k for k, word in enumerate(WORDS)}
FIRST: dict[str, int] = {kind: IDS[words[0]] for kind, words in TABLE.items()}
"""Kind of word → id of its first."""
SCALES: dict[str, npt.ArrayLike] = {
    "stop": coding.STOP_S, "shift": coding.SHIFT_S, "cruise": range(coding.RUNGS + 1),
    "speed": range(coding.RUNGS + 1), "up": range(coding.RUNGS + 1),
    "down": range(coding.RUNGS + 1), "gap": coding.GAP_S, "side": coding.SIDE,
    "along": coding.ALONG, "drift": coding.DRIFT, "long": coding.LONG_S,
    "rung": range(coding.RUNGS + 1),
}  # fmt: skip
"""Kinds of words that stand for numbers, and these."""
HEADER = (
    "stop", "shift", "mission", "cruise", "state", "link", "left", "right", "speed", "up", "down",
)  # fmt: skip
PER_OBJECT = 8 + len(ROLES)
SLOT_AT = len(HEADER) + PER_OBJECT
"""Where in the prompt the first slot is named."""
MAX_PROMPT = 1 + len(HEADER) + PER_OBJECT * coding.SLOTS + 1
MAX_THOUGHT = 2 + 4 * coding.SLOTS
MAX_ANSWER = 2 * len(FIELDS) + 1
CONTEXT = 192
assert len(IDS) == len(WORDS) and MAX_PROMPT + MAX_THOUGHT + 1 + MAX_ANSWER <= CONTEXT


def prompt_tokens(scenes: Coded, when: Ints | None = None) -> Ints:
    """(B, ``MAX_PROMPT``) ids; slots that are not taken are −1.

    when: the scenes' windows, where they are known already.
    """
    b = len(scenes)
    made = np.full((b, MAX_PROMPT), -1)
    made[:, 0] = IDS[START]
    up, _, down, _ = lookahead.speeds_of(scenes).T
    given = {"up": up, "down": down}
    for k, name in enumerate(HEADER):
        value = given[name] if name in given else getattr(scenes, name)
        made[:, 1 + k] = FIRST[name] + value
    when = windows_of(scenes) if when is None else when
    columns = [
        FIRST["kind"] + scenes.kind + scenes.told * len(_KINDS),
        *(FIRST[name] + getattr(scenes, name) for name in ("gap", "side", "along", "drift")),
        FIRST["long"] + scenes.long,
        FIRST["extent"] + scenes.wide * len(coding.SPREAD) + scenes.spread,
        *(FIRST[role] + when[..., k] for k, role in enumerate(ROLES)),
        # The slot's name comes last, so that it can stand for all that was said before it.
        np.broadcast_to(FIRST["slot"] + np.arange(coding.SLOTS), (b, coding.SLOTS)),
    ]
    objects = np.stack(columns, axis=2)
    objects[~scenes.taken] = -1
    made[:, 1 + len(HEADER) : -1] = objects.reshape(b, -1)
    made[:, -1] = IDS[THINK]
    return made


def text_of(tokens: Ints) -> str:
    """The words, joined by spaces."""
    return " ".join(WORDS[t] for t in tokens)
