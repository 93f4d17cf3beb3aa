"""Quality of service. A new profile each time: rclpy's overrides change the object they get."""

from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy


def images() -> QoSProfile:
    """Best effort, depth 1: a subscriber that is busy finds the newest frame, not a queue."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT
    )


def samples() -> QoSProfile:
    """Best effort, with room for half a second of an IMU at 1 kHz that is taken now and then."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=500, reliability=ReliabilityPolicy.BEST_EFFORT
    )


def results(depth: int = 10) -> QoSProfile:
    """Reliable and short: tracks, forecasts, spans, reports."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE
    )
