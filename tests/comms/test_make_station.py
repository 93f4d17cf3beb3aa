"""A station is what its configuration says, or is refused."""

import pytest
from rich.console import Console

from comms.config import V2xConfig
from comms.make_station import make_station
from comms.reasons import Reason
from comms.signing import frame_unsigned
from leadsight.v2x_pki import run_v2x_pki
from pipeline.errors import InputError
from tests.comms.test_gate import NOW, packed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("pki") / "out"
    run_v2x_pki(out, 2, 1.0, None, (), Console(quiet=True))
    return out


def test_with_trust_unsigned_messages_are_refused_and_without_they_are_taken(folder):
    data = frame_unsigned(packed())
    strict = make_station(V2xConfig(trust=str(folder / "trust")))
    strict.incoming(data, NOW)
    assert strict.report().rejected[Reason.UNSIGNED.value] == 1
    open_ = make_station(V2xConfig())
    open_.incoming(data, NOW)
    assert Reason.UNSIGNED.value not in open_.report().rejected


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"station": 2, "credentials": "station-1"}, "certificate is of station 1"),
        ({"credentials": "station-9"}, "v2x-pki"),
        ({"trust": "station-1"}, "v2x-pki"),
    ],
)
def test_a_station_that_cannot_be_is_refused(folder, options, says):
    paths = {k: str(folder / v) if k in ("trust", "credentials") else v for k, v in options.items()}
    with pytest.raises(InputError, match=says):
        make_station(V2xConfig(**paths))
