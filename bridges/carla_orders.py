"""Controls of ours as commands of CARLA's batches."""

from typing import Any

import numpy as np

from bridges import carla_frames
from bridges.simulator import Control, Drive, Place, Walk
from pipeline.box import FloatArray


def carla_transform(api: Any, pose: FloatArray) -> Any:
    """The library's transform of a pose (4, 4), ours."""
    location, angles = carla_frames.transforms(pose)
    return api.Transform(api.Location(*location.tolist()), api.Rotation(*angles.tolist()))


def order_of(api: Any, actor_id: int, control: Control, center: FloatArray) -> Any:
    """The command that makes an actor obey; center: (3,) m, of its body from its own origin."""
    if isinstance(control, Drive):
        wheel = api.VehicleControl(
            throttle=control.throttle, steer=-control.steer, brake=control.brake,
            hand_brake=control.hand_brake, reverse=control.reverse,
        )  # fmt: skip
        return api.command.ApplyVehicleControl(actor_id, wheel)
    if isinstance(control, Walk):
        speed = float(np.linalg.norm(control.velocity))
        ahead = carla_frames.flipped(control.velocity) / max(speed, 1e-9)
        step = api.WalkerControl(direction=api.Vector3D(*ahead.tolist()), speed=speed)
        return api.command.ApplyWalkerControl(actor_id, step)
    assert isinstance(control, Place)
    origin = control.pose.copy()
    origin[:3, 3] -= control.pose[:3, :3] @ center
    return api.command.ApplyTransform(actor_id, carla_transform(api, origin))
