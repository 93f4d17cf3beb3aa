"""Lifecycle node ``tracker``: ``image`` → ``tracks`` of the target chosen with ``~/select``."""

import sys
from dataclasses import dataclass
from typing import Any

from leadsight_msgs.msg import TrackArray
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from perception.target import TargetTracker
from perception.tracker import TrackerConfig
from pipeline.config import Config, option
from pipeline.errors import InputError
from ros_nodes import messages, process, qos
from ros_nodes.image_topics import ReceivedImage, subscribe
from ros_nodes.parameters import Live
from ros_nodes.select import TargetSelection
from ros_nodes.stage import Stage


@dataclass(frozen=True)
class LifecycleConfig(Config):
    """How a lifecycle node starts."""

    autostart: bool = option(True, "Configure and activate without being told to.")


class TrackerNode(LifecycleNode):
    """Loads the model when configured, subscribes while active.

    ``tracker.extra_delay_ms`` acts at once; every other option at the next configure.
    """

    def __init__(self) -> None:
        super().__init__("tracker")
        self._options = Live(self, "tracker", TrackerConfig, lambda config: config)
        lifecycle = Live(self, "lifecycle", LifecycleConfig, lambda config: config, ("autostart",))
        self._stage = Stage(self, self._reset)
        self._target: TargetTracker | None = None
        self._selection = TargetSelection(self)
        self._images: Subscription | None = None
        self._tracks = self.create_publisher(TrackArray, "tracks", qos.results())
        self._overrides = QoSOverridingOptions.with_default_policies()
        if lifecycle.config.autostart:
            self.trigger_configure()
            if self._target is not None:
                self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._target = TargetTracker(self._options.config, self._stage.clock)
        except InputError as error:
            self._stage.fault = str(error)
            self.get_logger().error(f"{error}; then configure again")
            return TransitionCallbackReturn.FAILURE
        self._stage.fault = ""
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._selection.tracker = self._target
        self._images = subscribe(self, "image", self._receive, self._stage, self._overrides)
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._images is not None:
            self.destroy_subscription(self._images)
        self._images = self._selection.tracker = None
        self._reset()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._target = None
        return TransitionCallbackReturn.SUCCESS

    def _receive(self, message: ReceivedImage, info: Any) -> None:
        self._stage.handle(message.header, info, lambda index: self._track(message, index))

    def _track(self, message: ReceivedImage, index: int) -> bool:
        if self._target is None:
            return False
        frame = messages.frame_of(message, index)
        self._selection.remember(frame)
        self._target.extra_delay_s = self._options.config.extra_delay_ms * 1e-3
        tracks = self._target.process(frame)
        if tracks is None:
            return False
        self._tracks.publish(messages.tracks_message(tracks, frame.frame_id))
        return True

    def _reset(self) -> None:
        self._selection.forget()
        if self._target is not None:
            self._target.reset()


def main() -> None:
    sys.exit(process.run(TrackerNode))


if __name__ == "__main__":
    main()
