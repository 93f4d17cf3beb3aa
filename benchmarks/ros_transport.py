"""sim_camera → isp → tracker → predictor → latency_monitor as five processes over DDS.

    python benchmarks/ros_transport.py [--seconds 60] [--tracker csrt]

Prints frames lost before the ISP, the transport delay, each stage's latency, and how long the
predictor's horizon takes to follow when the tracker is slowed by 100 ms in mid-run.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("isp", "tracker", "predictor")
WARM_UP_S = 3.0
STEP_MS = 100.0


@dataclass(frozen=True)
class Result:
    """Counts of frames; times in ms. reaction_ms: until 80 % of the horizon's change had come."""

    shown: int
    lost: int
    transport_p50_ms: float
    transport_p99_ms: float
    age_ms: dict[str, tuple[float, float, float]]
    reported: set[str]
    horizon_before_ms: float
    horizon_after_ms: float
    reaction_ms: float


@contextmanager
def nodes(*commands: list[str]) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Run nodes as processes; each is asked to end, and waited for."""
    started = []
    try:
        for name, *parameters in commands:
            arguments = [text for p in parameters for text in ("-p", p)]
            command = [sys.executable, "-m", f"ros_nodes.{name}", "--ros-args", *arguments]
            started.append(subprocess.Popen(command, cwd=ROOT))
        yield started
    finally:
        for process in started:
            process.send_signal(signal.SIGINT)
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def measure(
    seconds: float, tracker: str, width: int, height: int, tell: Callable[[str], None] = print
) -> Result:
    """Run the five processes and watch them; the step comes at half time."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randrange(1, 100)))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    import rclpy
    from leadsight_msgs.msg import ForecastArray, LatencyReport, Span
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    from ros_nodes import messages, process, qos

    process.keep_memory()
    process.use_profile()
    rclpy.init()
    watch = rclpy.create_node("ros_transport")
    spans: dict[str, list[tuple[float, Span]]] = {stage: [] for stage in STAGES}
    horizons: list[tuple[float, float]] = []
    reported: set[str] = set()

    def on_forecasts(message: ForecastArray) -> None:
        ahead = message.valid_at_ns[0] - messages.stamp_of(message.header)
        horizons.append((time.monotonic(), ahead * 1e-6))

    def on_latency(message: LatencyReport) -> None:
        reported.update(s for s, v in zip(message.stages, message.status, strict=True) if v == 0)

    for stage in STAGES:
        taken = spans[stage]
        watch.create_subscription(
            Span,
            f"{stage}/span",
            lambda m, taken=taken: taken.append((time.monotonic(), m)),
            qos.results(100),
        )
    watch.create_subscription(ForecastArray, "forecasts", on_forecasts, qos.results())
    watch.create_subscription(LatencyReport, "latency", on_latency, qos.results())
    parameters = watch.create_client(SetParameters, "tracker/set_parameters")

    def spin_until(done: Callable[[], bool], limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not done() and time.monotonic() < end:
            rclpy.spin_once(watch, timeout_sec=0.05)

    with nodes(
        ["isp", "isp.black_level:=[64.0]"],
        ["tracker", f"tracker.name:={tracker}"],
        ["predictor"],
        ["latency_monitor"],
        [
            "sim_camera",
            f"world.width:={width}",
            f"world.height:={height}",
            "sim_camera.prerendered:=60",
            "sim_camera.select_service:=tracker/select",
        ],
    ):
        tell("starting five processes")
        spin_until(lambda: bool(horizons) and parameters.service_is_ready(), 60)
        if not horizons:
            raise RuntimeError("no forecast within 60 s: see the nodes' own messages")
        spin_until(lambda: False, WARM_UP_S)
        begin = time.monotonic()
        tell(f"measuring for {seconds:.0f} s, the tracker slowed after {seconds / 2:.0f} s")
        spin_until(lambda: False, seconds / 2)
        step = time.monotonic()
        value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=STEP_MS)
        request = SetParameters.Request(
            parameters=[Parameter(name="tracker.extra_delay_ms", value=value)]
        )
        parameters.call_async(request)
        spin_until(lambda: False, seconds / 2)
    watch.destroy_node()
    rclpy.shutdown()
    return evaluate(spans, horizons, reported, begin, step)


def evaluate(spans, horizons, reported, begin: float, step: float) -> Result:  # type: ignore[no-untyped-def]
    """Figures from what was watched; ages before the step only."""
    isp = [m for at, m in spans["isp"] if at >= begin]
    transport = [(m.start_ns - _stamp(m)) * 1e-6 for m in isp]
    age = {}
    for stage in STAGES:
        ages = [(m.end_ns - _stamp(m)) * 1e-6 for at, m in spans[stage] if begin <= at < step]
        age[stage] = tuple(np.percentile(ages, (50, 90, 99)).tolist())
    at, ahead = np.array(horizons).T
    before = float(np.median(ahead[(at >= begin) & (at < step)]))
    after = float(np.median(ahead[at > (step + at[-1]) / 2]))
    followed = at[(at > step) & (ahead >= before + 0.8 * (after - before))]
    reaction = (followed[0] - step) * 1e3 if len(followed) and after > before else float("inf")
    return Result(
        len(isp) + sum(m.dropped for m in isp),
        sum(m.dropped for m in isp),
        *np.percentile(transport, (50, 99)).tolist(),
        age,
        reported,
        before,
        after,
        float(reaction),
    )


def _stamp(message) -> int:  # type: ignore[no-untyped-def]
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tracker", default="csrt")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    options = parser.parse_args()
    found = measure(options.seconds, options.tracker, options.width, options.height)
    print(f"frames {options.width}x{options.height}     {found.shown}")
    print(f"lost before the ISP    {found.lost}")
    print(f"transport p50 / p99    {found.transport_p50_ms:.2f} / {found.transport_p99_ms:.2f} ms")
    for stage, (p50, p90, p99) in found.age_ms.items():
        print(f"age after {stage:<12} {p50:.1f} / {p90:.1f} / {p99:.1f} ms (p50 / p90 / p99)")
    print(f"stages reported        {', '.join(s for s in STAGES if s in found.reported)}")
    print(
        f"horizon                {found.horizon_before_ms:.0f} -> {found.horizon_after_ms:.0f} ms, "
        f"80 % of it after {found.reaction_ms:.0f} ms"
    )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
