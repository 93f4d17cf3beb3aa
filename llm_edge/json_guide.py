"""The decision's JSON by construction: a schema for a scene, and a guide that masks logits.

A general model writes the six fields that it can know; when a decision ends and who made it is put
to it here, and the whole goes through ``decision.parse`` like anybody's. ``llguidance`` compiles
the schema, with white space off: a weak model that may write some writes it for ever.
"""

import functools
import json
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from llm_edge.decision import Action, Decision, Direction, Reason, Risk, Source, parse
from llm_edge.llama_engine import LlamaEngine
from llm_edge.scene import Scene
from pipeline.errors import InputError, first_line

MAX_SPEEDS = 41
_STEPS = (0.5, 1.0, 2.0, 5.0, 10.0)


def speeds(scene: Scene) -> list[float]:
    """What may be answered as speed, m/s: steps up to the limit, and the limit."""
    limit = scene.platform.limit_mps
    step = next(s for s in _STEPS if limit / s < MAX_SPEEDS)
    made = [k * step for k in range(int(limit / step) + 1)]
    return [*made, limit] if limit - made[-1] > 1e-9 else made


def schema(scene: Scene) -> dict[str, Any]:
    """JSON schema of an answer about a scene: no free text, only targets that are there, stop and
    hold only at speed 0, a direction only where one may move aside."""
    targets: list[int | None] = [int(i) for i in scene.ids]
    if scene.target >= 0 and scene.target not in targets:
        targets.append(scene.target)
    allowed = [int(v) if v == int(v) else v for v in speeds(scene)]
    sides, ahead = [str(d) for d in Direction], [str(Direction.NONE)]
    shared = {"target": {"enum": [*targets, None]}}
    kinds = (
        ([str(Action.STOP), str(Action.HOLD)], ahead, [0]),
        ([str(Action.EVADE)], [str(Direction.LEFT), str(Direction.RIGHT)], allowed),
        ([str(Action.PROCEED), str(Action.SLOW)], ahead, allowed),
        ([str(Action.FOLLOW), str(Action.SEARCH)], sides, allowed),
    )
    return {"anyOf": [_object(shared, *kind) for kind in kinds]}


def _object(shared: dict[str, Any], actions: Any, sides: Any, allowed: Any) -> dict[str, Any]:
    fields = {
        "action": {"enum": actions},
        **shared,
        "direction": {"enum": sides},
        "speed_mps": {"enum": allowed},
        "risk": {"enum": [str(r) for r in Risk]},
        "reason": {"enum": [str(r) for r in Reason]},
    }
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def completed(text: str, scene: Scene, valid_until_ns: int, source: Source) -> Decision:
    """A model's answer as a decision.

    Raises:
        InputError: no JSON object, or none that ``decision.parse`` takes.
    """
    if len(text) > 4096:
        raise InputError(f"answer: {len(text)} characters; a decision has fewer than 4096")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"answer: no JSON ({first_line(error)})") from error
    if not isinstance(given, dict):
        raise InputError("answer: no JSON object")
    given |= {"valid_until_ns": valid_until_ns, "source": str(source)}
    return parse(json.dumps(given), scene)


class Guide:
    """Which tokens may follow, of one answer.

    ``forced`` is what must follow; else ``mask`` the logits, choose, and ``take`` the token.

    Raises:
        InputError: the extra is missing, or the grammar is none.
    """

    def __init__(self, engine: LlamaEngine, grammar: str) -> None:
        tokenizer = _tokenizer(engine)
        self._matcher = _llguidance().LLMatcher(tokenizer, grammar, log_level=0)
        if self._matcher.is_error():
            raise InputError(f"guide: {self._matcher.get_error().splitlines()[0][:200]}")
        self._bits = np.zeros((engine.vocabulary + 31) // 32, np.int32)

    @property
    def done(self) -> bool:
        """Whether the answer is whole."""
        return bool(self._matcher.is_accepting())

    def forced(self) -> npt.NDArray[np.int64]:
        """(K,) tokens without a choice; they are taken already."""
        tokens = self._matcher.compute_ff_tokens()
        if tokens and not self._matcher.consume_tokens(tokens):
            raise InputError(f"guide: {self._matcher.get_error()[:200]}")
        return np.array(tokens, np.int64)

    def mask(self, logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits (V,) with −∞ where a token may not follow."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        allowed = np.unpackbits(self._bits.view(np.uint8), bitorder="little", count=len(logits))
        if not allowed.any():
            raise InputError("guide: nothing may follow; the vocabulary lacks a character of JSON")
        return np.where(allowed.view(np.bool_), logits, np.float32(-np.inf))

    def take(self, token: int) -> None:
        """
        Raises:
            InputError: the token may not follow.
        """
        if not self._matcher.consume_token(token):
            raise InputError(f"guide: {self._matcher.get_error()[:200]}")


def grammar(schema: dict[str, Any]) -> str:
    """What ``Guide`` takes for a schema."""
    made: str = _llguidance().LLMatcher.grammar_from_json_schema(
        schema, overrides={"whitespace_flexible": False}
    )
    return made


@functools.cache
def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise InputError("llguidance is not installed: pip install 'leadsight[llm]'") from error
    return llguidance


def _tokenizer(engine: LlamaEngine) -> Any:
    """llguidance's view of an engine's vocabulary, made once an engine (up to a second)."""
    if engine.guide_vocabulary is None:
        _llguidance()
        from llguidance.llamacpp import lltokenizer_from_vocab

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of names, by llama_cpp
            engine.guide_vocabulary = lltokenizer_from_vocab(engine.vocab)
    return engine.guide_vocabulary
