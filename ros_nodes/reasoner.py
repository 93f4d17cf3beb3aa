"""Node ``reasoner``: ``v2x/objects``, ``odometry``, ``plan``, ``forecasts`` and ``mission`` →
``decision``; the action ``~/ask``. Where a model stands still for it, the tracker's spans, too."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from leadsight_msgs.msg import Decision, ForecastArray, LatencyReport, ObjectArray, Span
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from std_msgs.msg import String

from llm_edge.desk import Decider, Desk, Question
from llm_edge.events import urgent
from llm_edge.governor import Governor
from llm_edge.make_reasoner import STAGES, make_reasoner
from llm_edge.order import order_from_json
from llm_edge.pace import Pace
from llm_edge.policy import Policy
from llm_edge.reasoner import Answer
from llm_edge.scene import Scene
from llm_edge.scene_build import Built
from llm_edge.scene_source import SceneSource, SourceConfig
from llm_edge.tally import Tally
from pipeline.clock import Clock, WallClock
from pipeline.config import Config, option
from pipeline.errors import InputError
from ros_nodes import decision_messages, messages, object_messages, process, qos
from ros_nodes.parameters import Live
from ros_nodes.reasoner_ask import Asking
from ros_nodes.stage import STEADY, Stage

MS = 1_000_000
SILENT_NS = 2_000_000_000
VALID_NS = 1_000_000_000
"""A decision without any model holds for so long."""
IDLE_S = 0.5
"""Larger models are told so often what to prepare for."""


@dataclass(frozen=True)
class ReasonerNodeConfig(Config):
    """How often it decides, and by when."""

    rate_hz: float = option(5.0, "Decisions a second; 0 only on events.", low=0, high=100)
    on_events: bool = option(True, "Decide at once when the target is lost or somebody told of "
                             "stands in the way.")  # fmt: skip
    deadline_ms: float = option(33.0, "From a scene to its decision.", low=1, high=10_000)
    ask_limit_ms: float = option(1000.0, "The longest deadline of ~/ask.", low=1, high=60_000)
    consumer: str = option("control", "Who acts on it, among latency.consumers.")
    tracker: str = option("tracker", "Stage that must not suffer, among latency.stages.")


@dataclass(frozen=True)
class FrameConfig(Config):
    """The part of ``v2x`` that must be the same here."""

    frame_id: str = option("map", "Fixed frame of objects, odometry and plan.")


class ReasonerNode(Node):
    """make: a reasoner of its configurations by name, and a clock. stages: their classes, the
    governor's among them."""

    def __init__(
        self, make: Callable[[Any, Clock], Decider], stages: Mapping[str, type[Config]]
    ) -> None:
        super().__init__("reasoner")
        self._options = Live(self, "reasoner_node", ReasonerNodeConfig, lambda c: c, ["rate_hz"])
        self._frame_id = Live(self, "v2x", FrameConfig, lambda c: c, ["frame_id"]).config.frame_id
        self._source = Live(self, "scene", SourceConfig, SceneSource, _names(SourceConfig)).made
        configs: dict[str, Any] = {
            name: Live(self, name, cls, lambda c: c, _names(cls)).config
            for name, cls in stages.items()
        }
        self._wall = WallClock()  # deadlines are real, whatever time the world has
        made = make(configs, self._wall)
        self._pace = Pace(Governor(configs["governor"]), self._options.config.rate_hz)
        self._stage = Stage(self, self._reset)
        self._desk = Desk(made, self._stage.complain)
        self._tiers, self._rhythm = made.tiers, made.rhythm
        self._failed: set[str] = set()
        self._answered_ns = 0
        self._tally, self._skipped = Tally(), 0
        self._reset()
        self._decisions = self.create_publisher(Decision, "decision", qos.results(1))
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.results())
        self.create_subscription(Odometry, "odometry", self._guarded(self._move), qos.samples())
        for kind, topic, take in (
            (ObjectArray, "v2x/objects", self._see), (Path, "plan", self._intend),
            (ForecastArray, "forecasts", self._expect),
            (LatencyReport, "latency", self._adjust), (String, "mission", self._order),
        ):  # fmt: skip
            self.create_subscription(kind, topic, self._guarded(take), qos.results(1))
        self._asking = Asking(self, self._desk, self._wall, self._present, self._message,
                              self._within_ns, self._stage.warn)  # fmt: skip
        if self._rhythm is not None:
            topic = f"{self._options.config.tracker}/span"
            self.create_subscription(Span, topic, self._guarded(self._beat), qos.results())
        if made.prepares:
            self.create_timer(IDLE_S, self._prepare, clock=STEADY)
        if self._options.config.rate_hz:
            self.create_timer(1 / self._options.config.rate_hz, self._turn, clock=STEADY)
        self.create_timer(1.0, self._diagnose, clock=STEADY)

    def destroy_node(self) -> None:
        self._asking.close()
        self._desk.close()
        super().destroy_node()

    def _reset(self) -> None:
        self._source.reset()
        self._decided: Scene | None = None

    def _guarded(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        def guarded(message: Any) -> None:
            with self._stage.complaining():
                take(message)

        return guarded

    def _see(self, message: ObjectArray) -> None:
        objects = object_messages.fused_of(message, self._frame_id).objects
        self._stage.clock.see(objects.stamp_ns)
        self._source.see(objects, self._stage.clock.now_ns())
        if self._options.config.on_events and self._source.pose and not self._desk.busy:
            built = self._present()
            if urgent(self._decided, built.scene):
                self._think(built)

    def _move(self, message: Odometry) -> None:
        self._source.pose = object_messages.pose_of(message, self._frame_id)

    def _intend(self, message: Path) -> None:
        self._source.path = object_messages.path_of(message, self._frame_id)

    def _expect(self, message: ForecastArray) -> None:
        self._source.expect(messages.forecasts_of(message), self._options.config.consumer)

    def _order(self, message: String) -> None:
        self._source.order = order_from_json(message.data)

    def _adjust(self, message: LatencyReport) -> None:
        report, options = messages.report_of(message), self._options.config
        now_ns = self._stage.clock.now_ns()
        horizon = next((h.ns for h in report.horizons if h.consumer == options.consumer), None)
        self._source.adjust(horizon, now_ns)
        self._pace.told(report, options.tracker, STEADY.now().nanoseconds)

    def _beat(self, message: Span) -> None:
        """When the tracker worked, on the reasoner's clock; simulated time tells nothing of it."""
        span = messages.span_of(message)
        if self._rhythm is not None and not self.get_clock().ros_time_is_active:
            shift_ns = self._wall.now_ns() - self._stage.clock.now_ns()
            self._rhythm.told(span.start_ns + shift_ns, span.end_ns + shift_ns)

    def _prepare(self) -> None:
        """While nothing is asked, and the tracker bears it."""
        if not self._desk.busy and self._pace.advice == "go":
            with suppress(InputError):  # told of in turn
                self._desk.prepare(self._present().scene)
                self._pace.reasoned()

    def _turn(self) -> None:
        """A decision in turn, unless the last one goes on; of the rule policy alone where the
        tracker suffers, for a controller must not be left without."""
        if self._desk.busy:
            self._skipped += 1
            return
        reasons = self._pace.due(STEADY.now().nanoseconds)
        try:
            if reasons:
                self._think(self._present())
            else:
                self._by_rule(self._present())
        except InputError as error:
            self._skipped += 1
            self._stage.warn(str(error))

    def _think(self, built: Built) -> None:
        start_ns = self._stage.clock.now_ns()
        self._decided = built.scene

        def done(answer: Answer | None, why: str) -> None:  # on the desk's thread
            if answer is None:
                self._stage.complain(why)
                return
            self._publish(answer, built, start_ns)
            self._pace.reasoned()

        deadline_ns = self._wall.now_ns() + self._within_ns()[0]
        self._desk.submit(Question(built.scene, deadline_ns, done))

    def _by_rule(self, built: Built) -> None:
        start_ns, begun_ns = self._stage.clock.now_ns(), self._wall.now_ns()
        self._decided = built.scene
        made = Policy(built.scene).decide(built.scene.at_ns + VALID_NS)
        self._publish(Answer(made, True, self._wall.now_ns() - begun_ns), built, start_ns)

    def _publish(self, answer: Answer, built: Built, start_ns: int) -> None:
        self._decisions.publish(self._message(answer, built))
        self._stage.report(built.scene.seen_ns, start_ns, self._frame_id)
        self._tally.add(answer, self._wall.now_ns())
        self._answered_ns = STEADY.now().nanoseconds

    def _present(self, within_ns: int = 0) -> Built:
        within_ns = within_ns or self._within_ns()[0]
        return self._source.built(self._stage.clock.now_ns(), within_ns)

    def _within_ns(self) -> tuple[int, int]:
        options = self._options.config
        return round(options.deadline_ms * MS), round(options.ask_limit_ms * MS)

    def _message(self, answer: Answer, built: Built) -> Decision:
        decision, ready_ns = answer.decision, self._stage.clock.now_ns()
        return decision_messages.decision_message(
            decision, built.scene, built.named(decision.target), self._frame_id, ready_ns,
            not answer.met,
        )  # fmt: skip

    def _diagnose(self) -> None:
        name = f"{self.get_fully_qualified_name()}/decisions"
        tiers = self._tiers()
        for tier, state in tiers.items():
            if state.startswith("failed") and tier not in self._failed:
                self._failed.add(tier)
                self.get_logger().error(f"{tier} {state}; the others decide")
        status = decision_messages.diagnostics_of(
            name, self._tally.fare(), self._skipped, self._pace.advice, tiers, self._silent_s()
        )
        head = messages.header(self._stage.clock.now_ns())
        self._diagnostics.publish(DiagnosticArray(header=head, status=[status]))

    def _silent_s(self) -> float:
        """Since the last decision, where one was due; 0 where not."""
        rate_hz = self._options.config.rate_hz
        silent_ns = STEADY.now().nanoseconds - self._answered_ns
        return silent_ns * 1e-9 if rate_hz and silent_ns > SILENT_NS + 2e9 / rate_hz else 0.0


def _names(config: type[Config]) -> list[str]:
    return [f.name for f in fields(config)]  # type: ignore[arg-type]


def main() -> None:
    make = partial(make_reasoner, apart=True)  # the node's own threads must not delay it
    sys.exit(process.run(lambda: ReasonerNode(make, STAGES)))


if __name__ == "__main__":
    main()
