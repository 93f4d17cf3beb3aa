"""sim_camera → isp → tracker → predictor → latency_monitor as five processes over DDS.

    python -m benchmarks.ros_transport [--seconds 60] [--tracker csrt] [--nice 5]

Prints the frames sent by the camera and received by the ISP, the transport (from just before
``publish`` in the camera's process to the callback in the ISP's), the age of each stage's results
as the monitor's own ``latency`` says it, and how long the predictor's horizon takes to follow when
the tracker is slowed by 100 ms in mid-run: until half and until 80 % of the change have come.
``--nice`` starts the tracker's process at a lower priority.
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
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("isp", "tracker", "predictor")
WARM_UP_S = 3.0
STEP_MS = 100.0


@dataclass(frozen=True)
class Result:
    """Counts of frames; times in ms.

    transport_ms: p50, p90, p99. age_ms: by stage, median and p99 before the step, each the median
    of what the reports said. half_ms, reaction_ms: from the step until 50 and 80 % of the horizon's
    change had come.
    """

    sent: int
    received: int
    transport_ms: tuple[float, float, float]
    age_ms: dict[str, tuple[float, float]]
    horizon_before_ms: float
    horizon_after_ms: float
    half_ms: float
    reaction_ms: float


@contextmanager
def nodes(
    *commands: list[str], nice: dict[str, int] | None = None
) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Run nodes as processes; each is asked to end, and waited for. nice: by node."""
    started = []
    try:
        for name, *parameters in commands:
            arguments = [text for p in parameters for text in ("-p", p)]
            command = [sys.executable, "-m", f"ros_nodes.{name}", "--ros-args", *arguments]
            if nice and nice.get(name):
                command = ["nice", "-n", str(nice[name]), *command]
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
    seconds: float,
    tracker: str,
    width: int,
    height: int,
    nice: int = 0,
    tell: Callable[[str], None] = print,
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
    spans: list[tuple[float, Span]] = []
    horizons: list[tuple[float, float]] = []
    reports: list[tuple[float, LatencyReport]] = []

    def on_forecasts(message: ForecastArray) -> None:
        ahead = message.valid_at_ns[0] - messages.stamp_of(message.header)
        horizons.append((time.monotonic(), ahead * 1e-6))

    def into(taken: list[tuple[float, Any]]) -> Callable[[Any], None]:
        return lambda message: taken.append((time.monotonic(), message))

    watch.create_subscription(Span, "isp/span", into(spans), qos.results(100))
    watch.create_subscription(ForecastArray, "forecasts", on_forecasts, qos.results())
    watch.create_subscription(LatencyReport, "latency", into(reports), qos.results())
    parameters = watch.create_client(SetParameters, "tracker/set_parameters")

    def spin_until(done: Callable[[], bool], limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not done() and time.monotonic() < end:
            rclpy.spin_once(watch, timeout_sec=0.05)

    with nodes(
        ["isp", "isp.bits:=12", "isp.black_level:=[64.0]"],
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
        nice={"tracker": nice},
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
    return evaluate(spans, horizons, reports, begin, step)


def evaluate(
    spans: list[tuple[float, Any]],
    horizons: list[tuple[float, float]],
    reports: list[tuple[float, Any]],
    begin: float,
    step: float,
) -> Result:
    """Figures from what was watched; ages before the step only.

    Raises:
        RuntimeError: a stage that the monitor never had an estimate of.
    """
    isp = [m for at, m in spans if at >= begin]
    transport = [(m.start_ns - _stamp(m)) * 1e-6 for m in isp]
    age = {}
    for stage in STAGES:
        said = [
            (m.median_ns[i] * 1e-6, m.p99_ns[i] * 1e-6)
            for at, m in reports
            for i, name in enumerate(m.stages)
            if begin <= at < step and name == stage and m.status[i] == m.ESTIMATED
        ]
        if not said:
            raise RuntimeError(f"the latency monitor has no estimate of {stage}")
        median, p99 = np.median(said, axis=0).tolist()
        age[stage] = median, p99
    at, ahead = np.array(horizons).T
    before = float(np.median(ahead[(at >= begin) & (at < step)]))
    after = float(np.median(ahead[at > (step + at[-1]) / 2]))

    def until(share: float) -> float:
        followed = at[(at > step) & (ahead >= before + share * (after - before))]
        return float(followed[0] - step) * 1e3 if len(followed) and after > before else np.inf

    p50, p90, p99 = np.percentile(transport, (50, 90, 99)).tolist()
    sent = len(isp) + sum(m.dropped for m in isp)
    return Result(sent, len(isp), (p50, p90, p99), age, before, after, until(0.5), until(0.8))


def _stamp(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--tracker", default="csrt")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--nice", type=int, default=0)
    options = parser.parse_args()
    found = measure(options.seconds, options.tracker, options.width, options.height, options.nice)
    print(f"frames {options.width}x{options.height}, sim_camera -> isp, sent / received")
    print(f"                       {found.sent} / {found.received}")
    transport = " / ".join(f"{ms:.2f}" for ms in found.transport_ms)
    print(
        f"transport              {transport} ms (p50 / p90 / p99, publish -> callback in the isp)"
    )
    for stage, (median, p99) in found.age_ms.items():
        print(f"age after {stage:<12} {median:.1f} / {p99:.1f} ms (median / p99, from latency)")
    print(
        f"horizon                {found.horizon_before_ms:.0f} -> {found.horizon_after_ms:.0f} ms "
        f"after +{STEP_MS:.0f} ms; 50 % of it after {found.half_ms:.0f} ms, "
        f"80 % after {found.reaction_ms:.0f} ms"
    )


if __name__ == "__main__":
    main()
