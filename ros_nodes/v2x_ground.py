"""``tracks`` in a picture, ``camera_info`` and the vehicle's attitude → objects on the ground."""

from collections import Counter
from collections.abc import Callable

from leadsight_msgs.msg import TrackArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from comms.ground import GroundConfig, GroundTracker
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.imu import CameraCalibration
from pipeline.objects import Objects
from pipeline.pose import Pose
from ros_nodes import messages, qos
from ros_nodes.parameters import Live


class GroundInput:
    """Hears ``camera_info``; places the tracks that it is given."""

    def __init__(self, node: Node, complain: Callable[[str], None]) -> None:
        self._ground = Live(node, "ground", GroundConfig, GroundTracker)
        self._complain = complain
        self._camera: CameraCalibration | None = None
        node.create_subscription(CameraInfo, "camera_info", self._tell, qos.images())

    def reset(self) -> None:
        """Time jumped back."""
        self._ground.made.reset()

    @property
    def left_out(self) -> Counter[str]:
        """Boxes that were not placed, by reason."""
        return self._ground.made.left_out

    def objects_of(self, message: TrackArray, pose: Pose, rotation: FloatArray) -> Objects:
        """What is known at the message's stamp, at which the vehicle was there and so turned.

        Raises:
            InputError: tracks that cannot be, or no calibration of their camera.
        """
        tracks = messages.tracks_of(message)
        if self._camera is None:
            raise InputError(
                "tracks without a calibrated camera_info: give one, or objects, or set "
                "v2x_node.tracks to never"
            )
        return self._ground.made.observe(tracks, self._camera, pose, rotation)

    def _tell(self, message: CameraInfo) -> None:
        try:
            self._camera = messages.camera_of(message)
        except InputError as error:
            self._complain(str(error))
