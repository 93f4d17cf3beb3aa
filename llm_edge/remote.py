"""An OpenAI-compatible endpoint (llama-server, Ollama, vLLM, TensorRT Edge-LLM) as an answerer.

It is asked only while the measured round trip fits the deadline; whoever asks has an answer of its
own by then. What comes back is believed no more than anything else that comes over a network.
"""

import json
import os
import threading
from dataclasses import dataclass
from typing import Any

from llm_edge.answerer import Reply
from llm_edge.decision import Decision, Source
from llm_edge.http_post import Place, Poster, PostError
from llm_edge.json_guide import completed, schema
from llm_edge.prompt import parts
from llm_edge.round_trip import RoundTrip
from llm_edge.scene import Scene
from pipeline.clock import Clock
from pipeline.config import Config, option
from pipeline.errors import InputError

MAX_ANSWER_TOKENS = 120
_STREAM = "text/event-stream"


@dataclass(frozen=True)
class RemoteConfig(Config):
    """The remote tier's options."""

    url: str = option("", "Of chat completions, …/v1/chat/completions; empty for none.")
    model: str = option("default", "Name of the model there.")
    key_variable: str = option(
        "LEADSIGHT_LLM_KEY", "Environment variable with the key; it may be unset."
    )
    prompt_tokens: int = option(1400, "Tokens of a prompt at most.", low=256, high=131072)
    max_bytes: int = option(65536, "Of an answer.", low=1024, high=1 << 24)
    probe_s: float = option(5.0, "After a failure it is asked so often.", low=0.1, high=3600)
    valid_ms: float = option(1000.0, "A decision holds for so long.", low=1, high=60_000)
    stream: bool = option(False, "Ask for the answer in pieces.")


class Remote:
    """See ``Answerer``; run it in a ``ThreadWorker``, for a name may take seconds to resolve.

    Raises:
        InputError: no URL, or a key that no header can hold.
    """

    def __init__(self, config: RemoteConfig, clock: Clock) -> None:
        if not config.url:
            raise InputError("remote: no endpoint; give its URL")
        key = os.environ.get(config.key_variable, "")
        if any(c <= " " or c > "~" for c in key):
            raise InputError(f"{config.key_variable}: the key holds signs that no header can hold")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._config, self._clock = config, clock
        self._poster = Poster(Place.of(config.url), config.max_bytes, headers)
        self.round_trip = RoundTrip(config.probe_s)
        self._canceled = threading.Event()

    def fits(self, deadline_ns: int) -> bool:
        """Whether it would be asked now."""
        now_ns = self._clock.now_ns()
        return self.round_trip.allows(now_ns, deadline_ns - now_ns)

    def answer(self, scene: Scene, deadline_ns: int) -> Reply:
        self._canceled.clear()
        begun_ns = self._clock.now_ns()
        left_ns = deadline_ns - begun_ns
        if left_ns <= 0:
            return Reply(None, "the deadline is over")
        if not self.fits(deadline_ns):
            return Reply(None, "the round trip does not fit the deadline")
        self.round_trip.asked(begun_ns)
        try:
            kind, body = self._poster.post(self._question(scene), left_ns)
            decision = self._decision(kind, body, scene)
        except (PostError, InputError) as error:
            self.round_trip.gave_up(self._clock.now_ns() - begun_ns)
            return Reply(None, "canceled" if self._canceled.is_set() else f"remote: {error}")
        took_ns = self._clock.now_ns() - begun_ns
        self.round_trip.answered(took_ns)
        return Reply(decision, "", {"took_ms": took_ns * 1e-6})

    def _question(self, scene: Scene) -> dict[str, Any]:
        made = parts(scene, self._config.prompt_tokens)
        return {
            "model": self._config.model,
            "messages": [
                {"role": "system", "content": made.static},
                {"role": "user", "content": made.slow + made.fast},
            ],
            "temperature": 0,
            "max_tokens": MAX_ANSWER_TOKENS,
            "stream": self._config.stream,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "decision", "strict": True, "schema": schema(scene)},
            },
        }

    def _decision(self, kind: str, body: bytes, scene: Scene) -> Decision:
        text = _streamed(body) if kind == _STREAM else _content(_json(body), "message")
        until_ns = scene.at_ns + round(self._config.valid_ms * 1e6)
        return completed(_object(text), scene, until_ns, Source.REMOTE)

    def prepare(self, scene: Scene) -> None:
        """Nothing to do here: the endpoint has its own prefix cache."""

    def learn(self, scene: Scene, decision: Decision) -> None:
        """Nothing is kept."""

    def cancel(self) -> None:
        self._canceled.set()
        self._poster.hang_up()

    def close(self) -> None:
        self._poster.close()


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:  # JSON's and UTF-8's errors are such
        raise InputError("the answer is no JSON") from error


def _content(answer: Any, where: str) -> str:
    """choices[0].message.content, or of a stream's piece choices[0].delta.content."""
    try:
        choices = answer["choices"]
        text = choices[0][where].get("content") if choices else None
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError("the answer has no choices[0] with a content") from error
    if text is None and where == "delta":
        return ""
    if not isinstance(text, str):
        raise InputError("the answer's content is no text")
    return text


def _streamed(body: bytes) -> str:
    rows = [row for row in body.splitlines() if row.startswith(b"data:")]
    data = [row.removeprefix(b"data:").strip() for row in rows]
    return "".join(_content(_json(d), "delta") for d in data if d and d != b"[DONE]")


def _object(text: str) -> str:
    """Without what models like to put around: a fence, a sentence, a thought."""
    text = text.rpartition("</think>")[2]
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else text
