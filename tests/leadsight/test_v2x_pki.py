"""``leadsight v2x-pki``: what it writes is believed, and the keys are the owner's alone."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from comms.reasons import Reason, Rejected
from comms.signing import Credentials, Signer, TrustStore, Verifier

ROOT = Path(__file__).resolve().parents[2]


def pki(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "leadsight", "v2x-pki", str(folder), *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_stations_believe_each_other_but_not_the_revoked(tmp_path):
    out = tmp_path / "keys"
    done = pki(out, "--stations", "3", "--valid-hours", "1", "--from-s", "0", "--revoke", "2", "3")
    assert done.returncode == 0, done.stderr
    verifier = Verifier(TrustStore.load(out / "trust"))
    for station in (1, 2, 3):
        folder = out / f"station-{station}"
        assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
        message = Signer(Credentials.load(folder)).sign(b"x", 0)
        if station == 1:
            assert verifier.open(message, 3599 * 10**9)[1].station == 1
            with pytest.raises(Rejected) as caught:
                verifier.open(message, 3600 * 10**9)
            assert caught.value.reason is Reason.CERTIFICATE
        else:
            with pytest.raises(Rejected) as caught:
                verifier.open(message, 0)
            assert caught.value.reason is Reason.REVOKED
    assert stat.S_IMODE((out / "root/key.pem").stat().st_mode) == 0o600


def test_keys_are_not_overwritten_and_bad_options_are_one_line(tmp_path):
    (tmp_path / "something").touch()
    for arguments in (
        [tmp_path],
        [tmp_path / "a", "--revoke", "9"],
        [tmp_path / "a", "--from-s", "4294967295"],
        [tmp_path / "a", "--stations", "0"],
    ):
        done = pki(*arguments)
        assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "a").exists()
