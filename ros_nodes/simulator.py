"""Node ``simulator``: any simulator behind the port as ``image_raw``, ``imu``, ``odometry``, truth
and ``/clock``; ``cmd_vel`` and ``gimbal_aim`` go back into it.

It owns the clock. The first tick is stamped with the time of day, and ``/clock`` runs on smoothly
between two ticks, so that delays shorter than a tick are measured, too.
"""

import sys
import threading
import time
from dataclasses import dataclass, fields
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from bridges.follow import FollowConfig
from bridges.loop import LoopConfig, SimulationLoop, Step
from bridges.make_simulator import WORLDS, config_class, make_simulator, stage_of
from bridges.simulator import Simulator, SimulatorError, SimulatorOverError
from bridges.vehicle_sensors import SensorsConfig
from pipeline.config import Config, option
from pipeline.errors import InputError
from ros_nodes import messages, process, qos
from ros_nodes.parameters import Live
from ros_nodes.simulator_clock import PERIOD_S, SmoothClock
from ros_nodes.simulator_diagnostics import diagnostics_of
from ros_nodes.simulator_pilot import Pilot
from ros_nodes.simulator_vehicle import Vehicle
from ros_nodes.stage import STEADY

END_S = 4.0
"""Longest wait for the simulator's thread at the end."""
MOST_VEHICLES = 16
CARRIERS = ("uav", "car")


@dataclass(frozen=True)
class SimulatorConfig(Config):
    """Which simulator, who flies in it, and who flies them."""

    world: str = option("embedded", "Which simulator.", choices=WORLDS)
    source: str = option("", "What it plays or where it runs: a recording, a .sumocfg, host:port.")
    seed: int = option(
        0,
        "Number that its traffic and targets follow from; 0: the world's own, as mujoco.seed.",
        low=0,
        high=2**31 - 1,
    )
    vehicles: tuple[str, ...] = option(
        ("",), "Names of the UAVs, each with its topics under its name; one may have none."
    )
    carrier: str = option(
        "uav", "What the vehicles are; a car only where one can be spawned.", choices=CARRIERS
    )
    role: str = option("uav", "Name in the simulator of a vehicle without a name.")
    pilot: bool = option(
        True,
        "Until cmd_vel or gimbal_aim comes, each UAV is flown after its target, by what the "
        "simulator knows.",
    )
    silent_s: float = option(
        1.0,
        "Commands of motion that stay away for as long, in wall time, end in hovering or braking; "
        "0: the last one holds.",
        low=0,
        high=3600,
    )
    select_service: str = option(
        "",
        "Service under each vehicle to be told where its target is, for example tracker/select; "
        "empty for none.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        count = len(self.vehicles)
        if not 1 <= count <= MOST_VEHICLES or len({*self.vehicles}) < count:
            raise InputError(f"vehicles: give 1 to {MOST_VEHICLES} different names")
        if not all(name.isidentifier() and name.isascii() for name in self.vehicles if name):
            raise InputError("vehicles: a name is made of letters, digits and _")


class SimulatorNode(Node):
    """Ticks on a thread of its own; ends the process when the simulator ends."""

    def __init__(self) -> None:
        super().__init__("simulator")
        config = self._options("simulator", SimulatorConfig)
        sensors = self._options("sensors", SensorsConfig)
        follow = self._options("follow", FollowConfig)
        loop = self._options("simulation", LoopConfig)
        kind = config_class(config.world)
        own = self._options(stage_of(config.world), kind)
        simulator = make_simulator(config.world, own, config.seed, config.source)
        try:
            self._begin(simulator, config, sensors, follow, loop)
        except BaseException:
            simulator.close()
            raise
        self._clock_ticks = self.create_publisher(Clock, "/clock", qos.results(1))
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.results())
        self._wished_factor = loop.real_time_factor if simulator.abilities.owns_clock else 0.0
        self._time = SmoothClock(
            self._say_time, simulator.moment.stamp_ns + self._delay_ns, simulator.step_ns,
            self._wished_factor,
        )  # fmt: skip
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulator", daemon=True)
        self._thread.start()
        self.create_timer(1.0, self._report, clock=STEADY)
        if self._wished_factor:
            self.create_timer(PERIOD_S, self._time.run_on, clock=STEADY)

    def _begin(
        self,
        simulator: Simulator,
        config: SimulatorConfig,
        sensors: SensorsConfig,
        follow: FollowConfig,
        loop: LoopConfig,
    ) -> None:
        self._pilots = [
            Pilot(self, simulator, name, config.seed + k, follow, config)
            for k, name in enumerate(config.vehicles)
        ]
        for line in getattr(simulator, "warnings", ()):
            self.get_logger().warning(line)
        simulator.tick()  # who was spawned is there from the next tick on
        silent_s = config.silent_s
        self._vehicles = [
            Vehicle(self, simulator, pilot.number, pilot.prefix, sensors, silent_s)
            for pilot in self._pilots
        ]
        wished = [s for v in self._vehicles for s in v.sensors.values()]
        self._loop = SimulationLoop(simulator, wished, loop)
        self._delay_ns = time.time_ns() - simulator.moment.stamp_ns

    def _options(self, stage: str, cls: type[Any]) -> Any:
        return Live(self, stage, cls, lambda c: c, [f.name for f in fields(cls)]).config

    def destroy_node(self) -> None:
        self._stopped.set()
        self._thread.join(END_S)  # it may wait for a simulator that hangs; it is a daemon
        super().destroy_node()

    def _run(self) -> None:
        """The thread that owns the simulator."""
        try:
            with self._loop:
                while not self._stopped.is_set():
                    self._steer()
                    self._show(self._loop.step())
        except SimulatorOverError as error:
            self.get_logger().info(str(error))
            process.finish()
        except SimulatorError as error:
            print(f"{self.get_name()}: {error}", file=sys.stderr)
            process.finish(2)
        except Exception as error:
            self.get_logger().error(f"the simulator is given up: {error}")
            process.finish(2)

    def _steer(self) -> None:
        for vehicle, pilot in zip(self._vehicles, self._pilots, strict=True):
            given = vehicle.taken() or pilot.controls(vehicle)
            for control in given:
                try:
                    self._loop.apply(vehicle.number, control)
                except SimulatorError:
                    raise
                except InputError as error:
                    self.get_logger().error(str(error), throttle_duration_sec=1.0)

    def _show(self, step: Step) -> None:
        stamp_ns = step.moment.stamp_ns + self._delay_ns
        self._time.tick(stamp_ns)
        for vehicle, pilot in zip(self._vehicles, self._pilots, strict=True):
            vehicle.show(step, self._delay_ns)
            pilot.point_out(vehicle.seen(step.readings), vehicle.picture_size, stamp_ns)

    def _say_time(self, stamp_ns: int) -> None:
        self._clock_ticks.publish(Clock(clock=messages.header(stamp_ns).stamp))

    def _report(self) -> None:
        name = f"{self.get_namespace().rstrip('/')}/{self.get_name()}"
        status = diagnostics_of(name, self._loop, self._wished_factor)
        head = messages.header(self._time.stamp_ns)
        self._diagnostics.publish(DiagnosticArray(header=head, status=[status]))


def main() -> None:
    sys.exit(process.run(SimulatorNode))


if __name__ == "__main__":
    main()
