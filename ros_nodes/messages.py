"""Messages to dataclasses and back. Arrays are read in place and written as ``array.array``: the
one form that every ROS 2 takes without looking at each element."""

import array
from typing import Any

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Time
from leadsight_msgs import msg as own
from sensor_msgs.msg import CameraInfo, Image, Imu
from std_msgs.msg import Header

from isp.exposure import Advice, CameraState
from pipeline.errors import InputError
from pipeline.frame import Frame
from pipeline.images import image_frame
from pipeline.imu import CameraCalibration, ImuSamples
from pipeline.span import Horizon, LatencyReport, LatencyStatus, Origin, Span, StageLatency
from pipeline.tracks import MAX_TARGETS, Forecasts, ForecastStatus, Tracks
from prediction.latency import MAX_AGE_NS

MAX_COUNT = 2**32 - 1
"""What a uint32 holds; counters stay there."""
MAX_QUANTILES = 64


def header(stamp_ns: int, frame_id: str = "") -> Header:
    """A header with an acquisition time."""
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame_id)


def stamp_of(head: Header) -> int:
    """A header's acquisition time in ns.

    Raises:
        InputError: a negative time, or a second of over 10⁹ nanoseconds.
    """
    if head.stamp.sec < 0 or head.stamp.nanosec >= 10**9:
        raise InputError(
            f"header.stamp {head.stamp.sec} s {head.stamp.nanosec} ns is no time: "
            "set it to the acquisition of the image"
        )
    return int(head.stamp.sec) * 10**9 + int(head.stamp.nanosec)


def frame_of(message: Any, index: int) -> Frame:
    """The picture of a sensor_msgs/Image, or of what has its fields, over the message's own bytes.

    Raises:
        InputError: an unknown encoding, an impossible size, or data that ends too early.
    """
    return image_frame(message, stamp_of(message.header), index)


def image_of(frame: Frame) -> Image:
    """sensor_msgs/Image; one copy of the pixels."""
    image = np.ascontiguousarray(frame.image)
    width, height = frame.size
    message = Image(
        header=header(frame.stamp_ns, frame.frame_id),
        height=height,
        width=width,
        encoding=frame.encoding,
        is_bigendian=0,
        step=image.strides[0],
    )
    if image.size:  # memoryview cannot cast what is empty
        message.data.frombytes(image.data.cast("B"))  # the setter would copy twice more
    return message


def imu_samples(taken: list[Imu]) -> ImuSamples:
    """The angular rates of some sensor_msgs/Imu."""
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in taken]
    turns = [m.angular_velocity for m in taken]
    rates = np.array([(w.x, w.y, w.z) for w in turns], np.float64).reshape(-1, 3)
    return ImuSamples(np.array(stamps, np.int64), rates)


def imu_message(stamp_ns: int, rates: list[float], noise: float, frame_id: str) -> Imu:
    """sensor_msgs/Imu that knows of rates only; noise: their sigma, rad/s."""
    message = Imu(header=header(stamp_ns, frame_id))
    turn = message.angular_velocity
    turn.x, turn.y, turn.z = rates
    message.angular_velocity_covariance[[0, 4, 8]] = noise**2
    message.orientation_covariance[0] = message.linear_acceleration_covariance[0] = -1.0
    return message


def camera_of(message: CameraInfo) -> CameraCalibration | None:
    """None where the camera is not calibrated, which its driver says with zeros.

    Raises:
        InputError: another distortion than plumb_bob, or what cannot be.
    """
    if not message.k[0]:
        return None
    distortion = np.array(message.d, np.float64)
    if not distortion.any():
        distortion = np.empty(0)
    elif message.distortion_model != "plumb_bob":
        raise InputError(
            f"camera_info: distortion_model {message.distortion_model!r:.40} cannot be used with a "
            "gyroscope; rectify the pictures first (image_proc) and give the camera_info of those"
        )
    try:
        size = (message.width, message.height)
        return CameraCalibration(size, np.array(message.k).reshape(3, 3), distortion)
    except InputError as error:
        raise InputError(f"camera_info: {error}") from None


def camera_message(camera: CameraCalibration, stamp_ns: int, frame_id: str) -> CameraInfo:
    """sensor_msgs/CameraInfo."""
    k = camera.matrix
    return CameraInfo(
        header=header(stamp_ns, frame_id),
        width=camera.size[0],
        height=camera.size[1],
        distortion_model="plumb_bob",
        d=camera.distortion.tolist() or [0.0] * 5,
        k=k.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([k, np.zeros((3, 1))]).ravel(),
    )


def exposure_message(advice: Advice, frame_id: str) -> own.Exposure:
    """leadsight_msgs/Exposure.

    Raises:
        InputError: a value that the message cannot hold.
    """
    told = (advice.factor, advice.level, advice.clipped, advice.noise)
    if not (np.isfinite(told).all() and advice.factor > 0):
        raise InputError(f"advice on exposure: {told} are no factor, level, clipped and noise")
    return own.Exposure(
        header=header(advice.stamp_ns, frame_id),
        exposure_s=advice.exposure_s,
        gain=advice.gain,
        factor=advice.factor,
        level=advice.level,
        clipped=advice.clipped,
        noise=advice.noise,
        blur_px=advice.blur_px,
        reason=int(advice.reason),
    )


def camera_state_of(message: own.Exposure) -> CameraState:
    """What the camera does, as its driver says.

    Raises:
        InputError: an exposure time or gain that is no number above 0.
    """
    return CameraState(message.exposure_s, message.gain)


def tracks_message(tracks: Tracks, frame_id: str) -> own.TrackArray:
    """leadsight_msgs/TrackArray."""
    return own.TrackArray(
        header=header(tracks.stamp_ns, frame_id),
        ready_ns=tracks.ready_ns,
        frame_index=tracks.frame_index,
        image_width=tracks.image_size[0],
        image_height=tracks.image_size[1],
        ids=packed("i", tracks.ids),
        boxes=packed("d", tracks.boxes),
        scores=packed("f", tracks.scores),
        status=packed("B", tracks.status),
        labels=packed("h", tracks.labels),
        source=packed("B", tracks.source),
        answered_ns=packed("q", tracks.answered_ns),
        variances=packed("d", tracks.variances),
    )


def tracks_of(message: own.TrackArray) -> Tracks:
    """Raises:
    InputError: arrays that do not fit together, a value that is not finite, a wrong status."""
    n = _count("TrackArray.ids", message.ids)
    return Tracks(
        stamp_of(message.header),
        message.ready_ns,
        message.frame_index,
        (message.image_width, message.image_height),
        read_array("TrackArray.ids", message.ids, np.int32, (n,)),
        read_array("TrackArray.boxes", message.boxes, np.float64, (n, 4)),
        read_array("TrackArray.scores", message.scores, np.float32, (n,)),
        read_array("TrackArray.status", message.status, np.uint8, (n,)),
        read_array("TrackArray.labels", message.labels, np.int16, (n,)),
        _read_given("TrackArray.source", message.source, np.uint8, (n,)),
        _read_given("TrackArray.answered_ns", message.answered_ns, np.int64, (n,)),
        _read_given("TrackArray.variances", message.variances, np.float64, (n, 4)),
    )


def forecasts_message(forecasts: Forecasts, frame_id: str) -> own.ForecastArray:
    """leadsight_msgs/ForecastArray."""
    return own.ForecastArray(
        header=header(forecasts.stamp_ns, frame_id),
        ready_ns=forecasts.ready_ns,
        consumers=list(forecasts.consumers),
        valid_at_ns=packed("q", forecasts.valid_at_ns),
        ids=packed("i", forecasts.ids),
        boxes=packed("d", forecasts.boxes),
        covariances=packed("d", forecasts.covariances),
        status=packed("B", forecasts.status),
        probabilities=packed("d", forecasts.probabilities),
        regions=packed("d", forecasts.regions),
    )


def forecasts_of(message: own.ForecastArray) -> Forecasts:
    """Raises:
    InputError: arrays that do not fit together, a value that is not finite, a wrong status."""
    h, n = len(message.consumers), _count("ForecastArray.ids", message.ids)
    found = Forecasts(
        stamp_of(message.header),
        message.ready_ns,
        tuple(message.consumers),
        read_array("ForecastArray.valid_at_ns", message.valid_at_ns, np.int64, (h,)),
        read_array("ForecastArray.ids", message.ids, np.int32, (n,)),
        read_array("ForecastArray.boxes", message.boxes, np.float64, (h, n, 4)),
        read_array("ForecastArray.covariances", message.covariances, np.float64, (h, n, 4, 4)),
        read_array("ForecastArray.status", message.status, np.uint8, (h, n)),
        _read_given("ForecastArray.probabilities", message.probabilities, np.float64, (h,)),
        _read_given("ForecastArray.regions", message.regions, np.float64, (h, n, 4)),
    )
    if not (np.isfinite(found.boxes).all() and np.isfinite(found.covariances).all()):
        raise InputError("ForecastArray: a box or covariance is not finite; its sender is at fault")
    if found.status.size and found.status.max() > max(ForecastStatus):
        raise InputError(f"ForecastArray.status holds {found.status.max()}: know 0 to 3 only")
    if not ((found.probabilities >= 0) & (found.probabilities < 1)).all():
        raise InputError("ForecastArray: a probability outside 0 to 1; its sender is at fault")
    known = ~np.isnan(found.regions).all(axis=-1)
    if not np.isfinite(found.regions[known]).all():
        raise InputError("ForecastArray: a region is not finite; its sender is at fault")
    return found


def span_message(span: Span, frame_id: str = "") -> own.Span:
    """leadsight_msgs/Span."""
    return own.Span(
        header=header(span.stamp_ns, frame_id),
        stage=span.stage,
        start_ns=span.start_ns,
        end_ns=span.end_ns,
        dropped=min(span.dropped, MAX_COUNT),
    )


def span_of(message: own.Span) -> Span:
    """Raises:
    InputError: the header's stamp is no time."""
    return Span(
        message.stage[:80],
        stamp_of(message.header),
        message.start_ns,
        message.end_ns,
        message.dropped,
    )


def report_message(report: LatencyReport) -> own.LatencyReport:
    """leadsight_msgs/LatencyReport."""
    stages, horizons = report.stages, report.horizons
    count = max((len(h.quantiles_ns) for h in horizons), default=0)
    quantiles = [h.quantiles_ns or (h.ns,) * count for h in horizons]
    return own.LatencyReport(
        header=header(report.stamp_ns),
        stages=[s.stage for s in stages],
        status=array.array("B", [s.status for s in stages]),
        median_ns=array.array("q", [s.median_ns for s in stages]),
        p90_ns=array.array("q", [s.p90_ns for s in stages]),
        p99_ns=array.array("q", [s.p99_ns for s in stages]),
        jitter_ns=array.array("q", [s.jitter_ns for s in stages]),
        work_median_ns=array.array("q", [s.work_median_ns for s in stages]),
        rate_hz=array.array("f", [s.rate_hz for s in stages]),
        drops=array.array("I", [min(s.drops, MAX_COUNT) for s in stages]),
        consumers=[h.consumer for h in horizons],
        horizon_ns=array.array("q", [h.ns for h in horizons]),
        horizon_status=array.array("B", [h.status for h in horizons]),
        horizon_origin=array.array("B", [h.origin for h in horizons]),
        horizon_quantiles_ns=array.array("q", [ns for each in quantiles for ns in each]),
    )


def report_of(message: own.LatencyReport) -> LatencyReport:
    """Raises:
    InputError: arrays of unequal length, a wrong status or origin, a horizon or quantile below zero
        or above 60 s, quantiles that fall."""
    quantiles = _quantiles(message)
    try:
        stages = tuple(
            StageLatency(name, LatencyStatus(status), *rest)
            for name, status, *rest in zip(
                message.stages,
                message.status,
                message.median_ns,
                message.p90_ns,
                message.p99_ns,
                message.jitter_ns,
                message.work_median_ns,
                message.rate_hz,
                message.drops,
                strict=True,
            )
        )
        horizons = tuple(
            Horizon(consumer, ns, LatencyStatus(status), times, Origin(origin))
            for consumer, ns, status, origin, times in zip(
                message.consumers,
                message.horizon_ns,
                message.horizon_status,
                message.horizon_origin or [Origin.STAMP] * len(message.consumers),
                quantiles,
                strict=True,
            )
        )
    except ValueError as error:
        raise InputError(f"LatencyReport: {error}; its sender is at fault") from None
    for horizon in horizons:
        if not 0 <= horizon.ns <= MAX_AGE_NS:
            raise InputError(
                f"LatencyReport: horizon of {horizon.consumer!r:.40} is {horizon.ns} ns, "
                "allowed is 0 to 60 s; check that all stages share one clock"
            )
    return LatencyReport(stamp_of(message.header), stages, horizons)


def _quantiles(message: own.LatencyReport) -> list[tuple[int, ...]]:
    """Each consumer's; none where a sender left the field empty."""
    consumers, given = len(message.consumers), message.horizon_quantiles_ns
    if not len(given):
        return [()] * consumers
    count = min(len(given) // max(consumers, 1), MAX_QUANTILES)
    values = read_array("LatencyReport.horizon_quantiles_ns", given, np.int64, (consumers, count))
    if values.min() < 0 or values.max() > MAX_AGE_NS or (np.diff(values, axis=1) < 0).any():
        raise InputError(
            "LatencyReport.horizon_quantiles_ns must rise, from 0 to at most 60 s; "
            "check that all stages share one clock"
        )
    return [tuple(row) for row in values.tolist()]


def packed(code: str, values: npt.NDArray[Any]) -> "array.array[Any]":
    """Values of a type code's own dtype as the array that a message takes; one copy."""
    out = array.array(code)
    values = np.ascontiguousarray(values)
    if values.size:  # memoryview cannot cast what is empty
        out.frombytes(values.data.cast("B"))
    return out


def _count(name: str, ids: Any) -> int:
    if len(ids) > MAX_TARGETS:
        raise InputError(f"{name} holds {len(ids)} targets, allowed are {MAX_TARGETS}")
    return len(ids)


def read_array(name: str, values: Any, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """A message's array over its own bytes.

    Raises:
        InputError: another number of values than the shape has.
    """
    if len(values) != np.prod(shape, dtype=int):
        raise InputError(
            f"{name} holds {len(values)} values, {np.prod(shape, dtype=int)} fit the others; "
            "its sender is at fault"
        )
    return np.frombuffer(values, dtype).reshape(shape) if len(values) else np.zeros(shape, dtype)


def _read_given(name: str, values: Any, dtype: Any, shape: tuple[int, ...]) -> Any:
    """None where a sender left the field empty."""
    return read_array(name, values, dtype, shape) if len(values) else None
