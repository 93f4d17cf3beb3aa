"""The ``~/ask`` action: one decision by a deadline, on the present scene or a given one."""

from collections.abc import Callable
from typing import Any

from leadsight_msgs.action import Ask
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.node import Node

from llm_edge.desk import Desk, Question
from llm_edge.reasoner import Answer
from llm_edge.scene import scene_from_json
from llm_edge.scene_build import Built
from pipeline.clock import Clock
from pipeline.errors import InputError
from ros_nodes.stage import STEADY

FEEDBACK_NS = 20_000_000
MAX_WHY = 200
Message = Callable[[Answer, Built], Any]


class Asking:
    """Goals wait their turn at the desk; a cancel answers the one that goes on at once.

    present: the scene as the node knows it, of when a decision within so many ns is used; raises
    InputError where it knows none. message: a decision as it is published. within_ns: the deadline
    of who gives none, and the longest.
    """

    def __init__(
        self,
        node: Node,
        desk: Desk,
        clock: Clock,
        present: Callable[[int], Built],
        message: Message,
        within_ns: Callable[[], tuple[int, int]],
        warn: Callable[[str], None],
    ) -> None:
        self._node, self._desk, self._clock = node, desk, clock
        self._present, self._message, self._warn = present, message, warn
        self._within_ns = within_ns
        self._open: dict[bytes, Question] = {}
        self._server = ActionServer(
            node, Ask, "~/ask", lambda _: Ask.Result(), goal_callback=self._admit,
            handle_accepted_callback=self._begin, cancel_callback=self._cancel,
        )  # fmt: skip

    def close(self) -> None:
        """Take no more goals."""
        self._server.destroy()

    def _admit(self, goal: Any) -> Any:
        if 0 <= goal.within_ns <= self._within_ns()[1]:
            return GoalResponse.ACCEPT
        self._warn(f"ask: within_ns {goal.within_ns} is not in 0 to {self._within_ns()[1]}")
        return GoalResponse.REJECT

    def _begin(self, handle: Any) -> None:
        asked_ns = self._clock.now_ns()
        goal = handle.request
        within_ns = goal.within_ns or self._within_ns()[0]
        try:
            given = scene_from_json(goal.scene) if goal.scene else None
            built = self._present(within_ns) if given is None else Built.given(given)
        except InputError as error:
            self._conclude(handle, None, str(error), None)
            return
        executor = self._node.executor

        def done(answer: Answer | None, why: str) -> None:
            executor.create_task(self._conclude, handle, answer, why, built)

        question = Question(built.scene, asked_ns + within_ns, done, _teller(handle))
        self._open[bytes(handle.goal_id.uuid)] = question
        if not self._desk.submit(question):
            self._conclude(handle, None, "too many questions wait: ask again later", None)

    def _cancel(self, handle: Any) -> Any:
        question = self._open.get(bytes(handle.goal_id.uuid))
        if question is not None:
            self._desk.cancel(question)
        return CancelResponse.ACCEPT

    def _conclude(self, handle: Any, answer: Answer | None, why: str, built: Built | None) -> None:
        self._open.pop(bytes(handle.goal_id.uuid), None)
        result = Ask.Result(why=why[:MAX_WHY])
        if answer is not None and built is not None:
            result = Ask.Result(
                decision=self._message(answer, built),
                missed=not answer.met,
                thought_tokens=answer.thought_tokens,
                votes=answer.votes,
                first_token_ns=answer.ttft_ns,
                took_ns=answer.took_ns,
                why=why[:MAX_WHY],
            )

        def end(handle: Any) -> Any:
            if handle.is_cancel_requested:
                handle.canceled()
            elif answer is None:
                handle.abort()
            else:
                handle.succeed()
            return result

        handle.execute(end)


def _teller(handle: Any) -> Callable[[str, int], None]:
    """Feedback on each new stage, and now and then within one."""
    last: list[Any] = ["", 0]

    def tell(stage: str, tokens: int) -> None:
        now_ns = STEADY.now().nanoseconds
        if stage != last[0] or now_ns - last[1] >= FEEDBACK_NS:
            last[:] = stage, now_ns
            handle.publish_feedback(Ask.Feedback(stage=stage[:80], thought_tokens=tokens))

    return tell
