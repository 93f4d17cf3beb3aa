"""The command line: ``leadsight --help``."""

import math
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from bridges.make_simulator import WORLDS
from evaluation.data import find_data
from evaluation.two_rate import METHODS
from isp.make import make_isp
from isp.sensor import HELD_BACK, LEVELS, PROFILES
from leadsight import __version__
from perception.detector import DetectorConfig
from perception.layouts import LAYOUTS
from perception.tracker import TRACKERS
from pipeline import config
from pipeline.errors import InputError
from prediction.predictor import PREDICTORS, VISUAL

app = typer.Typer(
    help="On-board perception that knows how late it is.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# Rich folds tables at 80 columns where there is no terminal, as in a pipe or a log.
console = Console(width=None if sys.stdout.isatty() else max(get_terminal_size().columns, 120))


def _finite(value: float | None) -> float | None:
    """Ranges of typer before 0.29 let NaN pass."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number.")
    return value


def _folder(path: Path) -> Path:
    """Refuse, before any work, a folder that could not be written to after it."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise typer.BadParameter(f"{there} is no folder that can be written to.")
    return path


def _channel_options(asked: bool) -> None:
    """Print what ``v2x-relay --set`` takes, and end."""
    if asked:
        from leadsight.v2x_relay import CONFIGS

        typer.echo(config.to_yaml(CONFIGS), nl=False)
        raise typer.Exit


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


LIST_OPTIONS: dict[str, Callable[[str], bool]] = {
    "--latency": _is_number,
    "--predictor": METHODS.__contains__,
    "--tracker": TRACKERS.__contains__,
    "--replay": lambda text: not text.startswith("-"),
    "--detector": lambda text: ":" in text,
    "--model": lambda text: text.endswith(".onnx"),
    "--published": lambda text: text.endswith(".onnx"),
    "--level": LEVELS.__contains__,
    "--raw": lambda text: not text.startswith("-"),
    "--revoke": str.isdigit,
}
"""Options that take several values at once, and which words belong to them."""

Box = Annotated[str, typer.Option(help="The target in the first frame: x,y,w,h in pixels.")]
Models = Annotated[
    Path | None,
    typer.Option(
        help="Folder of model files (nanotrackv3/ …); else tracker.models, $LEADSIGHT_DATA/models."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="stage.option=value, as often as wanted (`leadsight config`)."),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML parameter file.")]
Tracker = Annotated[str | None, typer.Option(help=f"One of {', '.join(TRACKERS)}; tracker.name.")]
Predictor = Annotated[
    str | None, typer.Option(help=f"One of {', '.join(PREDICTORS)}; predictor.name.")
]
Topic = Annotated[str | None, typer.Option(help="Camera topic of a bag that holds several.")]
Truth = Annotated[Path | None, typer.Option("--gt", help="Box file: x,y,w,h a line.")]
Fps = Annotated[
    float | None,
    typer.Option(
        min=1e-3, max=1e5, callback=_finite, help="Frame rate, where the recording has none."
    ),
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(callback=_folder, help="Folder for what it makes.")] = Path(
        "out/demo"
    ),
    seconds: Annotated[
        float, typer.Option(callback=_finite, min=2, max=60, help="Length of the flight.")
    ] = 8.0,
    latency: Annotated[
        float, typer.Option(callback=_finite, min=0.001, max=2, help="Simulated, in s.")
    ] = 0.12,
    seed: Annotated[int, typer.Option(min=0, help="Of the embedded world.")] = 7,
) -> None:
    """Fly the embedded world, track a car late, and win the delay back. Needs nothing else."""
    from leadsight.demo import run_demo

    run_demo(out, seconds, latency, seed, console)


@app.command()
def simulate(
    world: Annotated[str, typer.Argument(help=f"One of {', '.join(WORLDS)}.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bag to write, an .mcap file.")] = Path(
        "flight.mcap"
    ),
    seconds: Annotated[
        float, typer.Option(callback=_finite, min=0.1, max=3600, help="Length of the flight.")
    ] = 20.0,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of the world and target.")] = 0,
    source: Annotated[
        str,
        typer.Option(help="sumo: a .sumocfg or host:port; recorder: a CARLA recorder's file."),
    ] = "",
    video: Annotated[Path | None, typer.Option(help="Also a video, an .mp4 file.")] = None,
    target: Annotated[int | None, typer.Option(help="Id of the vehicle to follow.")] = None,
    width: Annotated[int, typer.Option(min=64, max=4096, help="Of pictures, even.")] = 640,
    height: Annotated[int, typer.Option(min=64, max=4096, help="Of pictures, even.")] = 480,
    fov: Annotated[
        float, typer.Option(callback=_finite, min=5, max=90, help="Horizontal, in degrees.")
    ] = 50.0,
    encoding: Annotated[str, typer.Option(help="rgb8, or bayer_rggb12 and the like.")] = "rgb8",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace bag and video.")] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Of the world (mujoco.vehicles=40), follow or isp."),
    ] = None,
) -> None:
    """Fly a UAV after a vehicle in a simulator; the flight becomes a bag with its truth.

    The pilot knows the truth. `leadsight evaluate flight.mcap` reads the bag back.
    """
    from leadsight.simulate import FlightRequest, run_simulate

    request = FlightRequest(
        world, out, seconds, seed, source, video, target, width, height, fov, encoding, overwrite,
        tuple(settings or ()),
    )  # fmt: skip
    run_simulate(request, console)


@app.command()
def track(
    source: Annotated[Path, typer.Argument(help="Video, folder of pictures, or bag.")],
    box: Box,
    out: Annotated[
        Path, typer.Option(callback=_folder, help="Folder for video and JSON lines.")
    ] = Path("out/track"),
    tracker: Tracker = None,
    predictor: Predictor = None,
    latency: Annotated[
        float,
        typer.Option(
            callback=_finite, min=0, max=10, help="Latency to simulate, in s; 0 sees every frame."
        ),
    ] = 0.0,
    models: Models = None,
    fps: Fps = None,
    topic: Topic = None,
    config_file: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Follow one target through a recording: annotated video and one JSON line a frame."""
    from leadsight.track import run_track

    _check_names("--tracker", [tracker] if tracker else [], TRACKERS)
    _check_names("--predictor", [predictor] if predictor else [], PREDICTORS)
    configs = _configs(config_file, settings, models)
    if tracker:
        configs["tracker"] = replace(configs["tracker"], name=tracker)
    if predictor:
        configs["predictor"] = replace(configs["predictor"], name=predictor)
    run_track(source, box, out, configs, latency, fps, topic, console)


@app.command()
def evaluate(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(help="Sequences (folder with frames), folders of them, videos or bags."),
    ] = None,
    replay: Annotated[
        list[Path] | None,
        typer.Option(help="Stored tracker outputs instead: .npz files or folders of them."),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option("--gt", help="Box file; with --replay, the folder of them.")
    ] = None,
    tracker: Annotated[
        list[str] | None, typer.Option(help=f"One or more of {', '.join(TRACKERS)}; tracker.name.")
    ] = None,
    models: Models = None,
    latency: Annotated[
        list[float] | None, typer.Option(help="One or more latencies of the tracker, in s.")
    ] = None,
    jitter: Annotated[
        float,
        typer.Option(
            callback=_finite, min=0, max=2, help="Sigma of a log-normal latency; 0 is fixed."
        ),
    ] = 0.0,
    latency_file: Annotated[
        Path | None, typer.Option(help="Recorded latencies: one in s a line.")
    ] = None,
    clock: Annotated[
        str, typer.Option(help="sim, or wall: what it costs on this machine.")
    ] = "sim",
    predictor: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One or more of {', '.join(PREDICTORS)}; or two-rate, which carries late answers "
            "to the newest frame, or two-rate+ and one of them to predict onwards; or, with "
            f"nanotrack, {' or '.join(VISUAL)}."
        ),
    ] = None,
    predictor_cost_ms: Annotated[
        float,
        typer.Option(
            callback=_finite, min=0, max=1000, help="Charged to the clock for each prediction."
        ),
    ] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Of sampled latencies.")] = 0,
    fps: Fps = None,
    topic: Topic = None,
    target: Annotated[int | None, typer.Option(help="Id to follow in a bag's truth.")] = None,
    imu: Annotated[
        str | None,
        typer.Option(help="IMU topic of a bag that holds several; with propagator.calibration."),
    ] = None,
    out: Annotated[
        Path, typer.Option(callback=_folder, help="Folder for report and figures.")
    ] = Path("out/evaluate"),
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes on this machine.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="Ray cluster, as host:port; local starts one here (extra: scale)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the rows of a run that did not end.")
    ] = False,
    config_file: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Score trackers and predictors by what a user would have had at each moment (e-LAE)."""
    from leadsight import evaluate as command

    if clock not in ("sim", "wall"):
        raise InputError(f"--clock {clock}: give sim or wall")
    _check_names("--tracker", tracker or [], TRACKERS)
    _check_names("--predictor", predictor or [], METHODS)
    configs = _configs(config_file, settings, models)
    request = command.Request(
        tuple(sources or ()),
        tuple(replay or ()),
        truth,
        tuple(tracker or (configs["tracker"].name,)),
        tuple(latency or ()),
        latency_file,
        jitter,
        clock,
        tuple(predictor or (configs["predictor"].name,)),
        predictor_cost_ms,
        seed,
        fps,
        topic,
        target,
        configs,
        out,
        jobs,
        ray,
        resume,
        imu,
    )
    evaluation, failed = command.run(request, console)
    command.print_rows(evaluation.rows(), console)
    isp = make_isp(configs["isp"])
    command.write(evaluation, out, "leadsight " + " ".join(sys.argv[1:]), isp)
    console.print(f"wrote {out / 'report.html'} and {out / 'results.json'}", soft_wrap=True)
    if failed:
        raise InputError(command.complaint(failed))


@app.command()
def evaluate_mot(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="MOTChallenge or VisDrone-MOT folders, bags with a truth of many, or `world`: the "
            "embedded one."
        ),
    ],
    detector: Annotated[
        str | None,
        typer.Option(help="ONNX file, or `simulated`: truth with noise; detector.model."),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(LAYOUTS)}; detector.layout.")
    ] = None,
    latency: Annotated[
        list[float] | None, typer.Option(help="One or more latencies of the detector, in s.")
    ] = None,
    jitter: Annotated[
        float,
        typer.Option(
            callback=_finite, min=0, max=2, help="Sigma of a log-normal latency; 0 is fixed."
        ),
    ] = 0.0,
    predictor: Annotated[
        list[str] | None,
        typer.Option(help="As of evaluate; kalman and two-rate where none is named."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the world, the simulated detector, sampled latencies.")
    ] = 0,
    seconds: Annotated[
        float, typer.Option(callback=_finite, min=1, max=600, help="Length of the world.")
    ] = 10.0,
    agnostic: Annotated[
        bool, typer.Option("--agnostic", help="The detector's classes are not the truth's.")
    ] = False,
    own_truth: Annotated[
        bool,
        typer.Option(
            "--own-truth",
            help="Any recording: what the same detector says of every frame is the truth.",
        ),
    ] = False,
    fps: Fps = None,
    topic: Topic = None,
    out: Annotated[Path, typer.Option(callback=_folder, help="Folder for results.json.")] = Path(
        "out/evaluate-mot"
    ),
    config_file: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Score all targets of a detector as a user had them at each moment: HOTA, IDF1, MOTA, sAP."""
    from leadsight import evaluate_mot as command

    _check_names("--predictor", predictor or [], METHODS)
    _check_names("--layout", [layout] if layout else [], tuple(LAYOUTS))
    configs = _configs(config_file, settings, None)
    if layout:
        configs["detector"] = replace(configs["detector"], layout=layout)
    if detector and detector != command.SIMULATED:
        configs["detector"] = replace(configs["detector"], model=detector)
    elif not detector and not configs["detector"].model:
        raise InputError("give --detector: an ONNX file with its --layout, or simulated")
    request = command.Request(
        tuple(sources),
        detector == command.SIMULATED,
        tuple(latency or ()),
        jitter,
        tuple(predictor or ("kalman", "two-rate")),
        seed,
        seconds,
        fps,
        topic,
        agnostic,
        own_truth,
        configs,
    )
    result = command.run(request, console)
    command.print_rows(result, console)
    command.write(result, out / "results.json")
    console.print(f"wrote {out / 'results.json'}", soft_wrap=True)


@app.command("evaluate-isp")
def evaluate_isp(
    images: Annotated[Path, typer.Option(help="Folder of labeled pictures.")],
    labels: Annotated[
        Path, typer.Option(help="Folder of YOLO's .txt: class x_center y_center w h, a line a box.")
    ],
    detector: Annotated[
        list[str], typer.Option(help="FILE:LAYOUT, one or more; layouts as of detector.layout.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(help="Models of the task-aware ISP, one a seed; the shipped one if none."),
    ] = None,
    published: Annotated[
        list[str] | None,
        typer.Option(help="Models of `isp.train --operators published`, as a row to compare."),
    ] = None,
    level: Annotated[
        list[str] | None, typer.Option(help=f"Of light: {', '.join(LEVELS)}; all if none.")
    ] = None,
    sensor: Annotated[
        str,
        typer.Option(help=f"Simulated: {', '.join(PROFILES)}; {HELD_BACK} is not trained on."),
    ] = "small-12",
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Runs with other noise.")] = 3,
    limit: Annotated[int, typer.Option(min=1, help="At most so many pictures.")] = 5000,
    raw: Annotated[
        list[Path] | None, typer.Option(help="Camera RAW files to show in the report.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 1,
    out: Annotated[Path, typer.Option(help="For results.json and report.html.")] = Path(
        "out/evaluate-isp"
    ),
) -> None:
    """Score ISPs by what frozen detectors find in RAW of labeled pictures, from day to deep night.

    RAW is simulated from the pictures. The best classical ISP of each level is the baseline.
    """
    from evaluation.isp_quality import Study, Trained
    from leadsight import evaluate_isp as command

    _check_names("--level", level or [], tuple(LEVELS))
    _check_names("--sensor", [sensor], tuple(PROFILES))
    configs = []
    for text in detector:
        path, _, layout = text.rpartition(":")
        _check_names("--detector", [layout], tuple(LAYOUTS))
        configs.append(DetectorConfig(model=path, layout=layout, min_score=0.01))
    trained = [Trained("task-aware", tuple(model or ("",)))]
    if published:
        trained.append(Trained("published operators", tuple(published), published=True))
    study = Study(
        images, labels, tuple(configs), tuple(trained), tuple(level or LEVELS), seeds, sensor,
        limit,
    )  # fmt: skip
    result = command.run(study, jobs, console)
    command.print_columns(result, console)
    with console.status("report"):
        command.write(result, study, out, raw or [], f"leadsight {shlex.join(sys.argv[1:])}")
    console.print(f"wrote {out / 'report.html'}", soft_wrap=True)


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="Folder with frames, video, or bag.")],
    target: Annotated[Path, typer.Argument(help="The .mcap to write.")],
    truth: Truth = None,
    fps: Fps = None,
    topic: Topic = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
    compress: Annotated[bool, typer.Option(help="zstd; smaller, slower.")] = False,
) -> None:
    """Write a sequence as a rosbag2 MCAP: topics image (sensor_msgs/Image) and truth."""
    from leadsight.convert import run_convert

    run_convert(source, target, truth, fps, topic, overwrite, compress, console)


@app.command(name="config")
def show_config() -> None:
    """Print every stage's options with their defaults, as a ROS 2 parameter file."""
    from leadsight.stack import CONFIGS

    typer.echo(config.to_yaml(CONFIGS), nl=False)


@app.command()
def doctor(
    selftest: Annotated[bool, typer.Option(help="Run the stack for ten seconds.")] = True,
) -> None:
    """What is installed, what is missing and how to get it, and whether the stack runs here."""
    from leadsight.doctor import run_doctor

    if not run_doctor(selftest, console):
        raise typer.Exit(1)


@app.command("carla-doctor")
def carla_doctor(
    host: Annotated[str, typer.Option(help="Where the server runs.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its RPC port.")] = 2000,
    ticks: Annotated[int, typer.Option(min=5, max=2000, help="Length of the run.")] = 60,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="carla.option=value, as often as wanted."),
    ] = None,
) -> None:
    """Check a CARLA server, and print a report that can be sent back.

    What library and server can do, sensors and how fast they are, which signs the gyroscope has,
    where a moved camera takes its picture from, whether all is given back. Takes the server's clock
    for a minute. Without a server only the library is checked, and the exit status is 1.
    """
    from bridges.carla_client import CarlaConfig
    from leadsight.carla_doctor import run_carla_doctor

    assignments = [f"carla.host={host}", f"carla.port={port}", *(settings or [])]
    chosen = config.build({"carla": CarlaConfig}, assignments=assignments)["carla"]
    raise typer.Exit(run_carla_doctor(chosen, ticks, console))


@app.command()
def raw_doctor(
    source: Annotated[
        str,
        typer.Argument(help="RAW file (.raw, .dng, .png, .npy, …), bag, or topic: /camera/raw."),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Picture of the four candidates, .png or .jpg.")
    ] = Path("raw-doctor.png"),
    size: Annotated[str | None, typer.Option(help="WxH of a file without header.")] = None,
    step: Annotated[int, typer.Option(min=0, help="Bytes from row to row; 0 finds them.")] = 0,
    bits: Annotated[
        str, typer.Option(help="Significant bits: 8, 10, 12, 14, 16, or 10p, 12p (MIPI-packed).")
    ] = "",
    topic: Topic = None,
) -> None:
    """Find Bayer order, bits, justification and black level of an unknown RAW, and show the four
    candidate orders.

    Example: `leadsight raw-doctor frame.raw --size 1920x1080`, then look at raw-doctor.png and give
    what it prints to `leadsight track`, or to the node's parameter file. Green, bits and black are
    found for sure in most pictures. Which of the other two is red is a guess: it says how good.
    """
    from leadsight.raw_doctor import run_raw_doctor

    raise typer.Exit(run_raw_doctor(source, out, size, step, bits, topic, console))


@app.command("v2x-pki")
def v2x_pki(
    out: Annotated[Path, typer.Argument(callback=_folder, help="New folder for keys.")],
    stations: Annotated[int, typer.Option(min=1, max=10_000, help="How many, from number 1.")] = 2,
    valid_hours: Annotated[
        float, typer.Option(callback=_finite, min=0.001, max=1e6, help="From now, or --from-s.")
    ] = 24 * 7,
    from_s: Annotated[
        int | None,
        typer.Option(
            min=0, max=2**32 - 1, help="Seconds of the stations' clock; 0 in simulated time."
        ),
    ] = None,
    revoke: Annotated[
        list[int] | None, typer.Option(help="Stations whose certificates are called back.")
    ] = None,
) -> None:
    """Make keys and certificates for V2X stations to try signing with.

    A root, one certificate a station, and the signed list of those revoked; ECDSA P-256. The keys
    lie unencrypted in files that only you can read: for tests and demonstrations.
    """
    from leadsight.v2x_pki import run_v2x_pki

    run_v2x_pki(out, stations, valid_hours, from_s, revoke or (), console)


@app.command("v2x-relay")
def v2x_relay(
    peers: Annotated[
        list[str], typer.Argument(help="HOST:PORT of each station's link, two or more.")
    ],
    listen: Annotated[str, typer.Option(help="HOST:PORT to which the stations send.")] = (
        "127.0.0.1:47000"
    ),
    seconds: Annotated[
        float | None, typer.Option(callback=_finite, min=0.1, help="End after this; else Ctrl-C.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of losses and delays.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="channel.option=value, as often as wanted (`leadsight v2x-relay --list`)."
        ),
    ] = None,
    show: Annotated[
        bool,
        typer.Option(
            "--list", is_eager=True, callback=_channel_options, help="Print these options."
        ),
    ] = False,
) -> None:
    """Stand between stations that talk by UDP, as a radio link would: slow, late and lossy.

    Example: `leadsight v2x-relay 127.0.0.1:47001 127.0.0.1:47002 --set channel.rate_kbit_s=6000
    --set channel.delay_ms=20 --set channel.loss=0.1`, with the stations' links
    udp://127.0.0.1:47000?listen=47001 and udp://127.0.0.1:47000?listen=47002.
    """
    from leadsight.v2x_relay import run_relay

    run_relay(listen, peers, settings or [], seconds, seed, console)


@app.command("v2x-listen")
def v2x_listen(
    link: Annotated[
        str, typer.Argument(help="udp://… or zenoh://…, as `v2x.link` (docs/v2x-links.md).")
    ],
    trust: Annotated[
        Path | None,
        typer.Option(help="Folder with root certificate; without it nothing is verified."),
    ] = None,
    frame: Annotated[str, typer.Option(help="The frame that the stations share.")] = "map",
    seconds: Annotated[
        float | None, typer.Option(callback=_finite, min=0.1, help="End after this; else Ctrl-C.")
    ] = None,
) -> None:
    """Listen to V2X stations, and send nothing: who is there, what it weighs, what is refused.

    A row for each station: messages sent and their bytes in a second (payload of objects, header,
    signature, request, features), how many objects of it are known, age of its messages as they
    come (50 and 95 %), and the share that its sequence numbers show to be lost. Below, what was
    refused, by reason; at the end, all in all. Where there is no terminal, a line a second.

    Example: `leadsight v2x-listen udp://239.255.0.1:47347 --trust pki/trust`
    """
    from leadsight.v2x_listen import run_listen

    run_listen(link, trust, frame, seconds, console)


@app.command()
def ask(
    scene: Annotated[
        str, typer.Argument(help="JSON file of a scene (`--example` writes one), or - for stdin.")
    ] = "-",
    deadline: Annotated[str, typer.Option(help="When to have decided: 33ms, 1s, 800us.")] = "33ms",
    example: Annotated[
        bool, typer.Option("--example", help="Print a scene to begin with, and end.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="Draw scene and decision from above: .png, .jpg, .svg.")
    ] = None,
    config_file: ConfigFile = None,
    settings: Settings = None,
) -> None:
    """Decide on one scene by a deadline: JSON on standard output, how it came about on the other.

    Example: `leadsight ask --example > scene.json`, then `leadsight ask scene.json --deadline 5ms`.
    With `--set reasoner_slow.model=FILE.gguf` a model of yours is asked as well.
    """
    from leadsight import ask as command
    from llm_edge.scene import scene_json

    if example:
        typer.echo(scene_json(command.example()))
    else:
        command.run_ask(scene, deadline, _configs(config_file, settings, None), picture)


@app.command()
def calibrate(config_file: ConfigFile = None, settings: Settings = None) -> None:
    """Measure what a decision costs on this machine, and keep it for the deadline planner.

    A start does this by itself where nothing is kept for the model and the processor, or where what
    is kept no longer holds.
    """
    from leadsight.ask import run_calibrate

    run_calibrate(_configs(config_file, settings, None), console)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _configs(file: Path | None, settings: list[str] | None, models: Path | None) -> dict[str, Any]:
    """Every stage's configuration: defaults, file, --set, then --models.

    The folder of models that lies at hand serves only where none of them names one.
    """
    from leadsight.stack import CONFIGS

    configs = config.build(CONFIGS, file, settings or ())
    if configs["isp"].ignored:
        console.print(f"[yellow]{configs['isp'].ignored}[/]", soft_wrap=True)
    folder = models or (None if configs["tracker"].models else find_data("models"))
    if folder is not None:
        configs["tracker"] = replace(configs["tracker"], models=str(folder))
    return configs


def _check_names(option: str, names: list[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"{option} {name}: give one of {', '.join(known)}")


def _spread(arguments: list[str]) -> list[str]:
    """``--latency 1 2 3`` as ``--latency 1 --latency 2 --latency 3``, which the parser knows."""
    spread: list[str] = []
    current = ""
    for position, word in enumerate(arguments):
        if word in LIST_OPTIONS:
            current = word
        elif current and spread[-1] != current and LIST_OPTIONS[current](word):
            spread.append(current)
        elif position and spread[-1] != current:
            current = ""
        spread.append(word)
    return spread


UsageError: Any = typer.BadParameter.__base__
"""What the parser raises; typer exports only this descendant of it."""


def main() -> None:
    """Entry point: bad input is one line on standard error and exit status 2."""
    try:
        code = app(_spread(sys.argv[1:]) or ["--help"], "leadsight", standalone_mode=False)
    except InputError as error:
        _refuse(str(error))
    except UsageError as error:
        _refuse(f"{error.format_message()} (`leadsight --help`)")
    except OSError as error:
        _refuse(f"{error.filename}: {error.strerror}; give a place that can be read and written")
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _refuse(text: str) -> NoReturn:
    print("leadsight:", " ".join(text.split()), file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
