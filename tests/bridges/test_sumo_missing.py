"""Without SUMO the rest works, and its worlds say what to install."""

import sys

import pytest

from bridges.crossing import Crossing
from bridges.sumo import SumoTraffic
from pipeline.errors import InputError


@pytest.mark.parametrize("missing", ("libsumo", "sumo"))
def test_worlds_of_sumo_name_the_extra_that_is_missing(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    for make in (SumoTraffic, lambda: Crossing(1)):
        with pytest.raises(InputError, match=r"pip install 'leadsight\[sumo\]'"):
            make()


def test_a_program_of_sumo_that_is_missing_is_named(monkeypatch, tmp_path):
    libsumo = pytest.importorskip("libsumo", reason="SUMO is not installed (the sumo extra)")
    monkeypatch.setattr("bridges.sumo_session.load_sumo", lambda: (libsumo, tmp_path))
    for _ in range(2):
        with pytest.raises(InputError, match="netgenerate does not run"):
            SumoTraffic()
