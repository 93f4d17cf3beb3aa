"""A line of ``/diagnostics`` on how a simulator runs."""

import math

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from bridges.loop import SimulationLoop

SLOW = 0.9
"""Share of the wished real-time factor under which it is warned."""


def diagnostics_of(name: str, loop: SimulationLoop, wished_factor: float) -> DiagnosticStatus:
    """WARN where it runs slower than it shall, sensors stay away, or another client ticks too.

    wished_factor: 0: as fast as it goes.
    """
    factor, counts = loop.real_time_factor, loop.counts
    problems = []
    if wished_factor and factor < SLOW * wished_factor:
        problems.append(
            f"runs at {factor:.2f} of real time, not {wished_factor:g}: make pictures smaller or "
            "rarer, or set simulation.real_time_factor lower"
        )
    if loop.silent:
        problems.append(f"no word of {', '.join(loop.silent)}")
    if counts["skipped"] and loop.simulator.abilities.owns_clock:
        problems.append(f"{counts['skipped']} frames are not ours: another client ticks, too")
    shown = "not known" if math.isnan(factor) else f"{factor:.2f}"
    values = {
        "simulator": loop.simulator.name,
        "real-time factor": shown,
        **{key: str(counts[key]) for key in sorted({"ticks", "missing", "late", *counts})},
        **{key: str(count) for key, count in sorted(getattr(loop.simulator, "counts", {}).items())},
    }
    return DiagnosticStatus(
        level=DiagnosticStatus.WARN if problems else DiagnosticStatus.OK,
        name=name,
        message="; ".join(problems) or f"{loop.simulator.name}, {shown} of real time",
        hardware_id="leadsight",
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
