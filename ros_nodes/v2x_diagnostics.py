"""A line of ``/diagnostics`` on what a station exchanges."""

from collections.abc import Mapping

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from comms.link import LinkCount
from comms.station import Report


def diagnostics_of(
    name: str,
    report: Report,
    link: LinkCount,
    flooded: int,
    verified: bool,
    left_out: Mapping[str, int],
) -> DiagnosticStatus:
    """WARN where a peer contradicts what is seen, or messages came faster than they were read.

    left_out: boxes that could not be placed on the ground, by reason.
    """
    problems = []
    if report.distrusted:
        problems.append(f"{report.distrusted} of {report.peers} peers contradict and are not fused")
    if flooded or link.overrun:
        problems.append("more messages than can be read: the oldest go")
    values = {
        **{f"sent {kind} [B]": str(count) for kind, count in report.sent_bytes.items()},
        "sent": str(report.sent),
        "received": str(report.received),
        "peers": str(report.peers),
        "lost [%]": f"{100 * report.loss:.1f}",
        "age p50 [ms]": f"{report.age_ns[0] * 1e-6:.1f}",
        "age p95 [ms]": f"{report.age_ns[1] * 1e-6:.1f}",
        "age p99 [ms]": f"{report.age_ns[2] * 1e-6:.1f}",
        "signatures": "required" if verified else "not looked at",
        **{f"rejected: {reason}": str(n) for reason, n in sorted(report.rejected.items())},
        **{f"boxes left out: {reason}": str(n) for reason, n in sorted(left_out.items())},
        "not sent": str(link.failed),
        "not read": str(flooded + link.overrun),
    }
    return DiagnosticStatus(
        level=DiagnosticStatus.WARN if problems else DiagnosticStatus.OK,
        name=name,
        message="; ".join(problems) or (f"{report.peers} peers" if report.peers else "no peers"),
        hardware_id="leadsight",
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )
