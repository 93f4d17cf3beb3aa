"""The report page: complete, self-contained, and safe with whatever a sequence is called."""

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser

import numpy as np
import pytest

from bridges.world import AerialWorld, WorldConfig
from evaluation.clock import Latency
from evaluation.evaluate import Evaluation, evaluate
from evaluation.online import ReplaySource, TrackerSource
from evaluation.report import render, write_report
from evaluation.sequences import Frames, Sequence
from isp.classical import ClassicalIsp
from isp.config import IspConfig
from perception.tracker import TrackerConfig, make_tracker
from pipeline.frame import Frame
from prediction.predictor import PredictorConfig

HOSTILE = "<script>alert('x')</script>\"&$_{\x07\udc80"
PERIOD_NS = 33_333_333


def _moving_boxes(n: int) -> np.ndarray:
    k = np.arange(n)
    return np.stack([40 + 4.0 * k, 60 + 20 * np.sin(k / 9), 0 * k + 30, 0 * k + 24], 1)


def _stored(name: str, n: int = 90) -> tuple[Sequence, ReplaySource]:
    truth = _moving_boxes(n)
    sequence = Sequence(name, np.arange(n, dtype=np.int64) * PERIOD_NS, truth, None)
    boxes = np.stack([truth + 1.0, truth + 5.0])
    return sequence, ReplaySource(("exact", HOSTILE), boxes)


def _evaluated(cases, latencies=(0.047, 0.17), predictors=("kalman",)) -> Evaluation:
    found = evaluate(
        cases,
        [Latency(round(s * 1e9)) for s in latencies],
        list(predictors),
        PredictorConfig(),
        200_000,
    )
    return Evaluation(found, {"seed": 7, "numpy": "1.2.3"})


@pytest.fixture(scope="module")
def stored() -> Evaluation:
    return _evaluated([_stored("car one"), _stored(HOSTILE)])


@pytest.fixture(scope="module")
def page(stored) -> str:
    return render(stored, command="leadsight evaluate <here>")


class _Reader(HTMLParser):
    """Collects tags with attributes and the cells of table rows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.lines: list[list[str]] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.lines.append([])
        if tag == "td":
            self.lines[-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag):
        if tag == "td":
            self._in_cell = False

    def handle_data(self, data):
        if self._in_cell:
            self.lines[-1][-1] += data


def test_every_row_stands_in_the_table_with_its_figures(stored, page):
    lines = _Reader(page).lines
    rows = stored.rows()
    assert len(rows) == 2 * 2 * 2
    for row in rows:
        figures = [f"{v:.3f}" for v in (row.offline_auc, row.auc, row.dp, row.sigma_auc)]
        found = [
            line
            for line in lines
            if line[1:3] == [row.latency, row.predictor] and line[3:7] == figures
        ]
        assert found, row


def test_every_sequence_and_tracker_has_its_own_line(stored, page):
    lines = _Reader(page).lines
    assert sum(line[1:2] == ["car one"] for line in lines) == 4


def test_every_sequence_says_what_its_predictor_won_back(stored, page):
    lines = [line for line in _Reader(page).lines if line[1:2] == ["car one"]]
    found = {(line[0], line[3]): line for line in lines}
    document = {(s["tracker"], s["sequence"]): s for s in json.loads(stored.to_json())["sequences"]}
    for run in document["exact", "car one"]["runs"]:
        none, kalman = found["exact", run["latency"]][5:7]
        if run["predictor"] == "none":
            assert run["gap_auc"] == 0 and none == f"{run['auc']:.3f}"
            offline, lost = document["exact", "car one"]["offline"]["auc"], run["auc"]
        else:
            assert run["gap_auc"] == pytest.approx((run["auc"] - lost) / (offline - lost))
            assert kalman == f"{run['auc']:.3f} ({run['gap_auc']:.0%})"


def test_figures_are_inline_one_for_each_tracker_and_two_more(page):
    assert sum(tag == "svg" for tag, _ in _Reader(page).tags) == 2 + 2
    assert "currentColor" in page and "#010203" not in page


def test_every_figure_is_followed_by_a_sentence(page):
    sections = re.findall(r"<section>.*?</section>", page, re.DOTALL)
    assert len(sections) >= 6
    assert all("<p class=note>" in section for section in sections)


def test_nothing_is_loaded_from_elsewhere(page):
    for tag, attributes in _Reader(page).tags:
        assert tag not in ("script", "link", "iframe", "object", "base")
        for name in ("src", "href", "xlink:href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("data:", "#")), (tag, target)
        assert not any(name.startswith("on") for name in attributes)
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_hostile_names_are_shown_not_obeyed(page, stored, tmp_path):
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot;&amp;$_{\ufffd\ufffd" in page
    write_report(stored, tmp_path / "report.html", command=HOSTILE)
    assert "\ufffd" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_footer_says_how_to_repeat_it(page):
    footer = page[page.index("<footer>") :]
    for text in ("leadsight evaluate &lt;here&gt;", "seed", "7", "numpy", "1.2.3"):
        assert text in footer


def test_same_evaluation_gives_the_same_page(stored, page):
    assert render(stored, command="leadsight evaluate <here>") == page


def test_strip_shows_developed_raw_frames_with_true_stale_predicted_and_carried_boxes():
    world = AerialWorld(WorldConfig(width=320, height=180, occlusions=False))
    count = 45
    truths = [world.truth(k) for k in range(count)]

    def frames() -> Iterator[Frame]:
        return (shot.frame for shot in world.frames(count))

    sequence = Sequence(
        "world",
        np.array([t.stamp_ns for t in truths]),
        np.array([t.boxes[world.target_id] for t in truths]),
        Frames("world", frames),
    )
    tracker = make_tracker(TrackerConfig(name="csrt"))
    source = TrackerSource("csrt", tracker, ClassicalIsp(IspConfig()), sequence)
    found = _evaluated([(sequence, source)], (0.1,), ("kalman", "two-rate", "constant-velocity"))
    page = render(found)
    tiles = [a for tag, a in _Reader(page).tags if tag == "img"]
    assert len(tiles) == 6
    import base64

    import cv2

    from evaluation.video import CARRIED, PREDICTED, STALE, TRUTH

    pictures = []
    for tile in tiles:
        data = base64.b64decode(tile["src"].removeprefix("data:image/jpeg;base64,"))
        pictures.append(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))
    for color in (TRUTH, STALE, PREDICTED, CARRIED):
        near = [(np.abs(p.astype(int) - color).max(-1) < 60).sum() for p in pictures]
        assert max(near) > 60, color
    assert "overlap stale 0." in page and re.search(r", two-rate [01]\.", page)


def test_every_line_of_auc_against_latency_begins_where_there_is_no_latency(page):
    figure = page[page.index("AUC against latency") :]
    figure = figure[: figure.index("</svg>")]
    points = re.findall(r'd="M ([\d.]+) [\d.]+ \nL ([\d.]+) [\d.]+ \nL ([\d.]+) ', figure)
    shares = [(float(b) - float(a)) / (float(c) - float(a)) for a, b, c in points]
    # Two trackers, two predictors, at 0, 47 and 170 ms.
    assert sum(share == pytest.approx(47 / 170, abs=1e-4) for share in shares) == 4


def test_without_predictors_or_pictures_the_page_still_stands():
    page = render(_evaluated([_stored("a")], latencies=(0.1,), predictors=()))
    assert "only boxes were stored" in page and "gap recovered</span>" not in page


def test_without_results_the_page_says_so():
    assert "Nothing was evaluated" in render(Evaluation([], {}))


def test_matplotlib_is_left_as_it_was(stored):
    import matplotlib

    before = dict(matplotlib.rcParams)
    render(stored)
    assert dict(matplotlib.rcParams) == before
