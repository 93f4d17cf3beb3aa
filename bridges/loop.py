"""Drives a simulator: one owner of the clock, a barrier over its sensors, late actuators.

What actuators take is part of a closed loop: a control is handed to the simulator ``delay_s`` of
simulation time after it was given.
"""

import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

from bridges.barrier import FrameBarrier
from bridges.simulator import Control, Moment, Reading, Sensor, Simulator, SimulatorError
from pipeline.config import Config, option

POLICIES = ("wait", "partial", "drop")
_WINDOW = 30
"""Ticks over which the real-time factor is taken."""


@dataclass(frozen=True)
class LoopConfig(Config):
    """How a simulator is driven."""

    timeout_s: float = option(
        2.0, "Longest wait for the sensors of one tick, in wall time.", low=0.001, high=60
    )
    policy: str = option(
        "partial",
        "Where a sensor stays away: wait: the run ends with one line; partial: go on with the "
        "others; drop: leave the whole tick out.",
        choices=POLICIES,
    )
    real_time_factor: float = option(
        1.0,
        "Simulation time to wall time, where the machine holds it; 0: as fast as it goes.",
        low=0,
        high=100,
    )
    actuator_delay_s: float = option(
        0.0, "Simulation time from a control to what obeys it.", low=0, high=5
    )


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One tick: where everybody is, what sensors said by name, which are missing, what else
    happened. dropped: it is to be left out, and ``readings`` is empty."""

    moment: Moment
    readings: dict[str, Reading]
    missing: tuple[str, ...]
    events: list[Reading]
    dropped: bool = False


class SimulationLoop:
    """A simulator, ticked. Use it as a context: whatever happens, the simulator is closed.

    counts: ticks, frames that were skipped (another client ticks as well), dropped ticks, and the
    barrier's own.
    """

    def __init__(
        self, simulator: Simulator, sensors: Iterable[Sensor], config: LoopConfig | None = None
    ) -> None:
        """
        Raises:
            InputError: a sensor that the simulator refuses; it is closed then.
        """
        self._config = config or LoopConfig()
        self.simulator = simulator
        sensors = list(sensors)
        self._barrier = FrameBarrier(sensors, simulator.moment.frame + 1)
        self._carriers = [(s.name, s.parent) for s in sensors]
        self.counts: Counter[str] = Counter()
        self._due: deque[tuple[int, int, Control]] = deque()
        self._paces: deque[tuple[float, int]] = deque(maxlen=_WINDOW + 1)
        self._begin: tuple[float, int] | None = None
        self._last_frame: int | None = None
        try:
            for sensor in sensors:
                simulator.listen(sensor, self._barrier.put)
        except BaseException:
            simulator.close()
            raise

    def __enter__(self) -> "SimulationLoop":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def real_time_factor(self) -> float:
        """Of the last second or so: simulation time to wall time; NaN: not known yet."""
        if len(self._paces) < 2:
            return float("nan")
        (wall, stamp), (wall_now, stamp_now) = self._paces[0], self._paces[-1]
        return (stamp_now - stamp) * 1e-9 / max(wall_now - wall, 1e-9)

    @property
    def silent(self) -> tuple[str, ...]:
        """Sensors that are not waited for any more, until they speak again."""
        return self._barrier.silent

    def apply(self, actor_id: int, control: Control) -> None:
        """Hand a control over, after the actuator's delay.

        Raises:
            InputError: without a delay, what the simulator refuses; else that is counted as
                ``refused`` when it is due.
        """
        delay_ns = round(self._config.actuator_delay_s * 1e9)
        if not delay_ns:
            self.simulator.apply(actor_id, control)
            return
        self._due.append((self.simulator.moment.stamp_ns + delay_ns, actor_id, control))

    def step(self) -> Step:
        """The next tick.

        Raises:
            SimulatorError: it ended; or, with policy ``wait``, a sensor stays away.
        """
        self._hand_over()
        self._pace()
        moment = self.simulator.tick()
        self._count(moment)
        there = {*moment.actors.ids.tolist()}
        absent = [name for name, parent in self._carriers if parent not in there]
        readings, missing = self._barrier.collect(moment.frame, self._config.timeout_s, absent)
        if missing and self._config.policy == "wait":
            raise SimulatorError(
                f"{self.simulator.name}: no word of {', '.join(missing)} on frame {moment.frame} "
                f"within {self._config.timeout_s:g} s; raise simulation.timeout_s, or let it go on "
                "without them with simulation.policy: partial"
            )
        dropped = bool(missing) and self._config.policy == "drop"
        self.counts["dropped"] += dropped
        for name, count in self._barrier.counts.items():
            self.counts[name] = count
        readings = {} if dropped else readings
        return Step(moment, readings, missing, self._barrier.events(), dropped)

    def close(self) -> None:
        """End the simulator."""
        self.simulator.close()

    def _hand_over(self) -> None:
        next_ns = self.simulator.moment.stamp_ns + self.simulator.step_ns
        while self._due and self._due[0][0] < next_ns:
            _, actor_id, control = self._due.popleft()
            try:
                self.simulator.apply(actor_id, control)
            except SimulatorError:
                raise
            except ValueError:  # who was to obey is gone
                self.counts["refused"] += 1

    def _pace(self) -> None:
        """Wait for the wall clock; where it is far ahead, what is lost is lost."""
        factor = self._config.real_time_factor
        if not (factor and self.simulator.abilities.owns_clock):
            return
        now, stamp_ns = time.monotonic(), self.simulator.moment.stamp_ns
        if self._begin is None:
            self._begin = now, stamp_ns
        due = self._begin[0] + (stamp_ns - self._begin[1]) * 1e-9 / factor
        if due > now:
            time.sleep(due - now)
        elif now - due > 0.5:
            self._begin = now, stamp_ns

    def _count(self, moment: Moment) -> None:
        self.counts["ticks"] += 1
        if self._last_frame is not None:
            self.counts["skipped"] += max(0, moment.frame - self._last_frame - 1)
        self._last_frame = moment.frame
        self._paces.append((time.monotonic(), moment.stamp_ns))
