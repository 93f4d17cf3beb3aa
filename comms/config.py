"""Options of the V2X stage."""

from dataclasses import dataclass

from pipeline.config import Config, option
from pipeline.errors import InputError

SELECTORS = (
    "apc", "send_all", "random", "etsi", "confidence", "codriving", "select2drive",
    "select2drive_literal",
)  # fmt: skip
ALIGNMENTS = ("predict", "floored", "stale")


@dataclass(frozen=True)
class V2xConfig(Config):
    """What a station shares, how much of it, and what it makes of the others'."""

    station: int = option(1, "This station's number, unique among all.", low=1, high=2**32 - 1)
    frame_id: str = option("map", "Fixed frame that all stations share; x east, y north, z up.")
    link: str = option("ros", "How messages travel: ros, udp://…, zenoh://… (docs/v2x-links.md).")
    budget_bytes_s: float = option(
        20_000.0, "Bytes a second that may be sent, all included; 0 only listens.", low=0, high=1e8
    )
    rate_hz: float = option(10.0, "Messages a second at most.", low=0.1, high=100)
    selector: str = option("apc", "Which objects go first.", choices=SELECTORS)
    content: str = option(
        "compact", "Encoding of objects: compact, or ETSI's CPM.", choices=("compact", "cpm")
    )
    feature_bits: int = option(
        8, "Of each value of the feature layer, 4 or 8; 0 sends none.", low=0, high=8
    )
    reserved_share: float = option(
        0.2, "Share of each message for vulnerable road users and surprises.", low=0, high=1
    )
    request_s: float = option(
        0.5, "The plan and the view are told about so often.", low=0.1, high=10
    )
    range_m: float = option(
        150.0, "Farther from this station nothing is fused or sent.", low=10, high=5000
    )
    ttl_ms: float = option(3000.0, "What is older is not fused.", low=100, high=10_000)
    max_sigma_m: float = option(
        1.6, "Nor what is less sure of its place than this.", low=0.1, high=100
    )
    min_quality: float = option(
        0.7, "What exists with less probability is neither sent nor taken.", low=0, high=1
    )
    max_future_ms: float = option(
        50.0, "A message from further in the future is refused.", low=0, high=10_000
    )
    clock: str = option(
        "ntp",
        "What disciplines this station's clock; others count its error in.",
        choices=("unknown", "free", "ntp", "ptp", "gnss"),
    )
    alignment: str = option(
        "predict",
        "How late data come to the moment of fusion: predicted, in whole 100 ms, or not at all.",
        choices=ALIGNMENTS,
    )
    sender_prediction: bool = option(
        False, "Tell the mean velocity over the delay of what turns, instead of the present one."
    )
    credentials: str = option("", "Folder with key and certificate (`leadsight v2x-pki`).")
    certificate_s: float = option(
        10.0,
        "The certificate goes along so often for who only listens, more often where much is lost; "
        "besides where it is asked for.",
        low=0.25, high=60,
    )  # fmt: skip
    trust: str = option(
        "", "Folder with root certificate and revocation list; with it, unsigned ones are refused."
    )
    length_m: float = option(4.5, "Of this vehicle, which tells of itself as well.", low=0, high=50)
    width_m: float = option(1.8, "Of this vehicle.", low=0, high=10)
    height_m: float = option(1.5, "Of this vehicle.", low=0, high=10)
    vehicle_class: str = option(
        "car",
        "Of this vehicle.",
        choices=(
            "unknown", "person", "cyclist", "motorcycle", "car", "truck", "bus", "animal", "uav",
            "obstacle",
        ),
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.feature_bits not in (0, 4, 8):
            raise InputError(f"feature_bits: {self.feature_bits} is none of 0, 4, 8")
