"""rosbag2 files (MCAP, SQLite) without ROS: pictures and tracks in and out."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from evaluation.sequences import Frames, Sequence, read_boxes
from pipeline.box import FloatArray
from pipeline.errors import InputError, first_line
from pipeline.frame import Frame
from pipeline.images import compressed_frame, image_frame
from pipeline.imu import ImuSamples
from pipeline.resources import share_path
from pipeline.tracks import Tracks

IMAGE = "sensor_msgs/msg/Image"
IMU = "sensor_msgs/msg/Imu"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
TRACKS = "leadsight_msgs/msg/TrackArray"
OBJECTS = "leadsight_msgs/msg/ObjectArray"
MAX_STAMP_NS = 2**31 * 10**9
"""builtin_interfaces/Time counts seconds in an int32."""
TRUTH_TOPIC = "truth"
W = TypeVar("W", bound="BagWriter")


def typestore() -> Typestore:
    """ROS 2 Jazzy's messages and our tracks and objects."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for kind in (TRACKS, OBJECTS):
        file = f"{kind.rpartition('/')[2]}.msg"
        text = share_path("interfaces", "msg", file).read_text(encoding="utf-8")
        store.register(get_types_from_msg(text, kind))
    return store


class BagWriter:
    """Writes one MCAP file that ``ros2 bag play`` and any MCAP viewer opens.

    The file appears under its name when the writer is closed; an error leaves nothing behind.

    Raises:
        InputError: the path exists already or cannot be written.
    """

    def __init__(self, path: Path, overwrite: bool = False, compress: bool = False) -> None:
        if path.suffix != ".mcap":
            raise InputError(f"{path}: give a name that ends in .mcap")
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give the name of a file")
        if path.exists() and not overwrite:
            raise InputError(f"{path}: exists already; give another name or --overwrite")
        self._path = path
        self._store = typestore()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folder = Path(tempfile.mkdtemp(prefix=".bag-", dir=path.parent))
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({first_line(error)})") from None
        try:
            self._writer = Writer(
                self._folder / "bag", version=9, storage_plugin=StoragePlugin.MCAP
            )
            if compress:
                self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
        except (OSError, WriterError) as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise InputError(f"{path}: cannot be written ({first_line(error)})") from None
        self._connections: dict[str, Connection] = {}

    def __enter__(self: W) -> W:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._writer.close()
            if kind is None:
                os.replace(next((self._folder / "bag").glob("*.mcap")), self._path)
        except (OSError, WriterError) as problem:
            if kind is None:
                raise InputError(
                    f"{self._path}: cannot be written ({first_line(problem)})"
                ) from None
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def frame(self, topic: str, frame: Frame) -> None:
        """Write a picture as sensor_msgs/Image, logged at its acquisition."""
        image = np.ascontiguousarray(frame.image)
        width, height = frame.size
        step = image.strides[0]
        data = image.reshape(-1).view(np.uint8)
        message = self._new(
            IMAGE,
            header=self._header(frame.stamp_ns, frame.frame_id),
            height=height,
            width=width,
            encoding=frame.encoding,
            is_bigendian=0,
            step=step,
            data=data,
        )
        self._write(topic, IMAGE, frame.stamp_ns, message)

    def tracks(self, topic: str, tracks: Tracks, frame_id: str = "camera") -> None:
        """Write tracks (or truth) as leadsight_msgs/TrackArray, logged when they were ready."""
        message = self._new(
            TRACKS,
            header=self._header(tracks.stamp_ns, frame_id),
            ready_ns=tracks.ready_ns,
            frame_index=tracks.frame_index,
            image_width=tracks.image_size[0],
            image_height=tracks.image_size[1],
            ids=tracks.ids,
            boxes=tracks.boxes.ravel(),
            scores=tracks.scores,
            status=tracks.status,
            labels=tracks.labels,
            source=tracks.source,
            answered_ns=tracks.answered_ns,
            variances=tracks.variances.ravel(),
        )
        self._write(topic, TRACKS, tracks.ready_ns, message)

    def imu(self, topic: str, samples: ImuSamples, frame_id: str = "imu") -> None:
        """Write angular rates as sensor_msgs/Imu, logged at their own time; nothing else is known
        of the IMU, which the messages say."""
        vector, quaternion = "geometry_msgs/msg/Vector3", "geometry_msgs/msg/Quaternion"
        unknown, given = np.zeros(9), np.zeros(9)
        unknown[0] = -1.0
        still = self._new(vector, x=0.0, y=0.0, z=0.0)
        upright = self._new(quaternion, x=0.0, y=0.0, z=0.0, w=1.0)
        for stamp_ns, (x, y, z) in zip(
            samples.stamps_ns.tolist(), samples.rates.tolist(), strict=True
        ):
            message = self._new(
                IMU,
                header=self._header(stamp_ns, frame_id),
                orientation=upright,
                orientation_covariance=unknown,
                angular_velocity=self._new(vector, x=x, y=y, z=z),
                angular_velocity_covariance=given,
                linear_acceleration=still,
                linear_acceleration_covariance=unknown,
            )
            self._write(topic, IMU, stamp_ns, message)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        if not 0 <= stamp_ns < MAX_STAMP_NS:
            raise InputError(
                f"{self._path}: a stamp of {stamp_ns} ns cannot be written; ROS 2 takes 0 to under "
                "2^31 s"
            )
        seconds, nanoseconds = divmod(stamp_ns, 10**9)
        time = self._new("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self._new("std_msgs/msg/Header", stamp=time, frame_id=frame_id)

    def _new(self, kind: str, **fields: Any) -> Any:
        return self._store.types[kind](**fields)

    def _write(self, topic: str, kind: str, log_ns: int, message: Any) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._store
            )
        data = self._store.serialize_cdr(message, kind)
        self._writer.write(self._connections[topic], log_ns, data)


class Bag:
    """A bag opened for reading.

    Raises:
        InputError: no bag, or one that rosbags cannot read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise InputError(f"{path}: no such bag; give an .mcap or .db3 file or a bag's folder")
        try:
            self.reader = AnyReader([path], default_typestore=typestore())
            self.reader.open()
        except Exception as error:  # a damaged file makes its parser raise anything
            raise InputError(
                f"{path}: is no rosbag2 that can be read ({first_line(error)})"
            ) from None

    def topics(self) -> dict[str, str]:
        """Topic → message type."""
        return {c.topic: c.msgtype for c in self.reader.connections}

    def camera(self, topic: str | None) -> str:
        """The camera topic: the one asked for, else the only one.

        Raises:
            InputError: no such topic, none at all, or several to choose from.
        """
        cameras = [t for t, kind in self.topics().items() if kind in (IMAGE, COMPRESSED)]
        listed = ", ".join(cameras) or "none"
        if topic is not None:
            if topic not in cameras:
                raise InputError(f"{self.path}: no camera topic {topic}; there are: {listed}")
            return topic
        if len(cameras) != 1:
            others = ", ".join(f"{t} ({k})" for t, k in self.topics().items()) or "nothing"
            remedy = "choose one with --topic" if cameras else f"it holds {others}"
            raise InputError(f"{self.path}: camera topics: {listed}; {remedy}")
        return cameras[0]

    def imu(self, topic: str | None) -> str:
        """The topic of a gyroscope: the one asked for, else the only one.

        Raises:
            InputError: no such topic, none at all, or several to choose from.
        """
        imus = [t for t, kind in self.topics().items() if kind == IMU]
        found = [t for t in imus if topic in (t, None)]
        if len(found) != 1:
            remedy = "choose one with --imu" if imus else "record it beside the pictures"
            asked = f"no IMU topic {topic}" if topic is not None else "not one IMU topic"
            raise InputError(
                f"{self.path}: {asked}; there are: {', '.join(imus) or 'none'}; {remedy}"
            )
        return found[0]

    def gyro(self, topic: str) -> ImuSamples:
        """A topic's angular rates, in the order in which they were recorded."""
        stamps, rates = [], []
        for _, _, message in self.messages(topic):
            stamps.append(stamp_of(message.header))
            w = message.angular_velocity
            rates.append((w.x, w.y, w.z))
        return ImuSamples(np.array(stamps, np.int64), np.array(rates, np.float64).reshape(-1, 3))

    def messages(self, *topics: str) -> Iterator[tuple[str, int, Any]]:
        """(topic, log time in ns, message) in log order; messages that do not parse are an error.

        Raises:
            InputError: a message that does not parse.
        """
        connections = [c for c in self.reader.connections if c.topic in topics]
        raw = self.reader.messages(connections)
        place = "the first message"
        while True:
            try:
                connection, log_ns, data = next(raw)
                place = f"a message of {connection.topic} at {log_ns} ns"
                message = self.reader.deserialize(data, connection.msgtype)
            except StopIteration:
                return
            except Exception as error:
                raise InputError(
                    f"{self.path}: {place} or what follows it cannot be read "
                    f"({first_line(error)}); cut the bag there, or repair it with "
                    "`ros2 bag convert`"
                ) from None
            yield connection.topic, log_ns, message

    def stamps(self, topic: str) -> npt.NDArray[np.int64]:
        """(n,) acquisition times in ns of a topic's pictures."""
        return np.array([stamp_of(m.header) for _, _, m in self.messages(topic)], np.int64)

    def truth(self) -> Iterator[tuple[int, np.ndarray, FloatArray, np.ndarray]]:
        """Stamp in ns, ids (n,), boxes (n, 4) and labels (n,) of each message on topic truth.

        Raises:
            InputError: no such topic, or arrays that do not fit together.
        """
        topics = self.topics().items()
        found = [t for t, kind in topics if t.strip("/") == TRUTH_TOPIC and kind == TRACKS]
        if not found:
            raise InputError(
                f"{self.path}: no topic {TRUTH_TOPIC} of {TRACKS}; give a box file with --gt, "
                "a line a picture"
            )
        for _, _, message in self.messages(found[0]):
            ids, boxes = np.asarray(message.ids), np.asarray(message.boxes)
            if len(boxes) != 4 * len(ids):
                raise InputError(
                    f"{self.path}: a message of {found[0]} has {len(boxes)} numbers in boxes for "
                    f"{len(ids)} ids; write 4 for each, or give a box file with --gt"
                )
            labels = np.asarray(message.labels)
            if len(labels) != len(ids):
                labels = np.full(len(ids), -1, np.int16)
            yield stamp_of(message.header), ids, boxes.reshape(-1, 4), labels

    def frames(self, topic: str) -> Iterator[Frame]:
        """The pictures of a topic, numbered from 0.

        Raises:
            InputError: a picture whose size and data disagree.
        """
        compressed = self.topics()[topic] == COMPRESSED
        for index, (_, _, message) in enumerate(self.messages(topic)):
            stamp_ns = stamp_of(message.header)
            try:
                if compressed:
                    yield compressed_frame(message.data, stamp_ns, index, message.header.frame_id)
                else:
                    yield image_frame(message, stamp_ns, index)
            except InputError as error:
                raise InputError(f"{self.path}: {topic}: {error}") from None


def stamp_of(header: Any) -> int:
    """A header's acquisition time in ns."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def open_bag_frames(
    path: Path, topic: str | None = None
) -> tuple[Bag, Frames, npt.NDArray[np.int64]]:
    """A bag, the pictures of its camera, and their stamps, (n,), as they were recorded.

    Raises:
        InputError: no bag, or no camera.
    """
    bag = Bag(path)
    camera = bag.camera(topic)
    return bag, Frames(str(path), lambda: bag.frames(camera)), bag.stamps(camera)


def open_bag_sequence(
    path: Path,
    truth: Path | None = None,
    topic: str | None = None,
    target: int | None = None,
    imu: str | None = None,
) -> Sequence:
    """A bag's camera with its truth: a TrackArray topic, or a box file, a line a frame.

    ``target`` names the id to follow where the truth holds several; the first one otherwise.
    imu: where a gyroscope is wanted, its topic, or "" for the only one.

    Raises:
        InputError: no camera, no truth, no gyroscope where one is wanted, or time that jumps back.
    """
    bag, frames, stamps = open_bag_frames(path, topic)
    if not len(stamps):
        raise InputError(f"{path}: {bag.camera(topic)} holds no pictures")
    boxes = read_boxes(truth) if truth is not None else _bag_truth(bag, stamps, target)
    n = min(len(stamps), len(boxes))
    name = re.sub(r"\W+", "_", path.stem)
    samples = None if imu is None else bag.gyro(bag.imu(imu or None))
    return Sequence(name, stamps[:n], boxes[:n], frames, samples)


def _bag_truth(bag: Bag, stamps: np.ndarray, target: int | None) -> FloatArray:
    """(n, 4) boxes at the pictures' stamps; NaN where the truth does not hold the target."""
    by_stamp: dict[int, FloatArray] = {}
    for stamp_ns, ids, boxes, _ in bag.truth():
        if target is None and len(ids):
            target = int(ids[0])
        rows = np.flatnonzero(ids == target)
        if len(rows):
            by_stamp[stamp_ns] = boxes[rows[0]]
    absent = np.full(4, np.nan)
    return np.array([by_stamp.get(s, absent) for s in stamps.tolist()])
