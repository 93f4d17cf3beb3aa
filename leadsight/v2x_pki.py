"""``leadsight v2x-pki``: a root, a ticket for each station, and a list of those called back."""

import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from rich.console import Console

from comms.certificates import CERTIFICATE_BYTES, Certificate, issue, point_of, revoke
from comms.signing import CERTIFICATE_FILE, KEY_FILE, REVOKED_FILE, ROOT_FILE
from pipeline.errors import InputError

_BACKDATED_S = 300
"""Stations' clocks need not agree to the second with this one."""


def run_v2x_pki(
    out: Path,
    stations: int,
    valid_hours: float,
    from_s: int | None,
    revoked: Sequence[int],
    console: Console,
) -> None:
    """Write ``root/``, ``trust/`` and ``station-<n>/`` for n from 1.

    Raises:
        InputError: the folder holds something, a revoked station is none of them, or the times
            do not fit.
    """
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out}: is not empty, and keys are not overwritten; give a new folder")
    for station in revoked:
        if not 1 <= station <= stations:
            raise InputError(f"--revoke {station}: there are stations 1 to {stations}")
    begin_s = int(time.time()) - _BACKDATED_S if from_s is None else from_s
    end_s = begin_s + max(1, round(3600 * valid_hours)) + (_BACKDATED_S if from_s is None else 0)

    key = ec.generate_private_key(ec.SECP256R1())
    root = issue(key, None, point_of(key.public_key()), 0, begin_s, end_s, ())
    _write_key(out / "root", key)
    trust = out / "trust"
    trust.mkdir(parents=True)
    (trust / ROOT_FILE).write_bytes(root.pack())
    tickets: dict[int, Certificate] = {}
    for station in range(1, stations + 1):
        own = ec.generate_private_key(ec.SECP256R1())
        point = point_of(own.public_key())
        tickets[station] = issue(key, root, point, station, begin_s, end_s)
        folder = out / f"station-{station}"
        _write_key(folder, own)
        (folder / CERTIFICATE_FILE).write_bytes(tickets[station].pack())
    called_back = revoke(key, root, [tickets[s] for s in revoked], begin_s)
    (trust / REVOKED_FILE).write_bytes(called_back.pack())

    until = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(end_s))
    console.print(
        f"wrote {out}: {stations} stations with certificates of {CERTIFICATE_BYTES} bytes, "
        f"{len(called_back.digests)} revoked, valid until {until}",
        soft_wrap=True,
    )
    console.print(
        f"every station needs {shlex.quote(str(trust))} and its own folder; keep "
        f"{shlex.quote(str(out / 'root'))} off the vehicles",
        soft_wrap=True,
    )


def _write_key(folder: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """As PEM that only its owner can read, from its first byte on."""
    folder.mkdir(parents=True, mode=0o700)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    descriptor = os.open(folder / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
