"""What simulators have in common that run in this process: they tick when they are told, UAVs of
ours fly in them, and they read their sensors themselves."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from bridges.attached import Attached
from bridges.fleet import Fleet
from bridges.simulator import (
    Abilities,
    Control,
    Moment,
    Reading,
    Sensor,
    SimulatorError,
    Value,
    refuse_control,
    refuse_spawn,
)
from comms.geodesy import Origin
from pipeline.box import FloatArray
from pipeline.errors import InputError
from pipeline.objects import ObjectClass


class OwnSimulator(ABC):
    """See ``Simulator``. A subclass calls ``_begin`` when its world is made."""

    name: str
    step_ns: int
    abilities: Abilities
    moment: Moment

    def __init__(self, origin: Origin | None = None) -> None:
        """origin: where on earth the world's origin lies."""
        self._fleet = Fleet(origin)
        self._attached = Attached()
        self._frame = 0
        self._closed = False

    @abstractmethod
    def _advance(self) -> None:
        """Bring the world to tick ``_frame + 1``; crafts fly, and ``_frame`` is counted, after."""

    @abstractmethod
    def _world(self) -> Moment:
        """The world's own actors at ``_frame``."""

    @abstractmethod
    def _value(self, sensor: Sensor) -> Value | None:
        """What a sensor says now; None: its carrier is gone."""

    def _begin(self) -> None:
        self.moment = self._now()

    def tick(self) -> Moment:
        self._check()
        try:
            self._advance()
            self._fly()
            self._frame += 1
            self.moment = self._now()
        except SimulatorError:
            raise
        except InputError as error:
            raise SimulatorError(f"{self.name}: {error}") from None
        self._read()
        return self.moment

    def spawn(self, kind: ObjectClass, pose: FloatArray, role: str = "") -> int:
        self._check()
        refuse_spawn(self, kind)
        number = self._fleet.spawn(pose, role)
        self.moment = self._now()
        return number

    def listen(self, sensor: Sensor, receive: Callable[[Reading], None]) -> None:
        self._check()
        self._attached.add(self, sensor, receive)

    def apply(self, actor_id: int, control: Control) -> None:
        self._check()
        refuse_control(self, control)
        self._fleet.apply(actor_id, control)

    def close(self) -> None:
        self._closed = True
        self._attached.clear()

    def _fly(self) -> None:
        self._fleet.step(self.step_ns, self.moment.stamp_ns)

    def _read(self) -> None:
        """Hand out the readings that are due."""
        self._attached.read(self._frame, self.moment.stamp_ns, self._value)

    def _now(self) -> Moment:
        return self._fleet.joined(self._world())

    def _check(self) -> None:
        if self._closed:
            raise SimulatorError(f"{self.name} is closed; make a new one")
