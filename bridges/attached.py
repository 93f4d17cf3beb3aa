"""The sensors of a simulator that makes its readings itself, at its own ticks."""

from collections.abc import Callable

from bridges.simulator import Reading, Sensor, Simulator, Value, refuse_sensor


class Attached:
    """Who listens to what; ``read`` hands out what is due."""

    def __init__(self) -> None:
        self._all: dict[str, tuple[Sensor, Callable[[Reading], None], int]] = {}

    def add(self, simulator: Simulator, sensor: Sensor, receive: Callable[[Reading], None]) -> None:
        """Attach a sensor; it reads from the next tick on.

        Raises:
            InputError: of a kind that the simulator lacks, a name that is taken, no such parent.
        """
        refuse_sensor(simulator, sensor, {*self._all})
        simulator.moment.actors.row(sensor.parent)
        self._all[sensor.name] = sensor, receive, simulator.moment.frame + 1

    def remove(self, name: str) -> None:
        """A sensor that could not be made after all."""
        self._all.pop(name, None)

    def due(self, frame: int) -> list[Sensor]:
        """Sensors that read on this tick."""
        return [s for s, _, first in self._all.values() if (frame - first) % s.every == 0]

    def read(self, frame: int, stamp_ns: int, value: Callable[[Sensor], Value | None]) -> None:
        """Hand out the readings of a tick. A sensor whose carrier is gone (None) is silent."""
        for sensor in self.due(frame):
            found = value(sensor)
            if found is not None:
                self._all[sensor.name][1](Reading(sensor.name, frame, stamp_ns, found))

    def clear(self) -> None:
        """Nobody listens any more."""
        self._all.clear()
