"""The report of an evaluation: what its figures are, and that its page needs nothing else."""

import base64
import dataclasses
import io
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from report_examples import CARD, make_evidence, make_results, make_row, make_run

from ugejax.app.report import draw_curves, draw_images, pictures, write_report
from ugejax.app.report.charts import curve_charts, laid_out, radial_mean
from ugejax.app.report.content import group_rows, interval, make_content
from ugejax.app.report.evidence import read_evidence, write_evidence
from ugejax.app.report.markdown import to_markdown
from ugejax.app.report.page import to_html
from ugejax.app.report.pictures import amplified, epochs_of
from ugejax.app.report.table import verdict
from ugejax.errors import UserError

VOID = {"img", "meta"}  # of the elements that the page has


class Page(HTMLParser):
    """A page's elements, refusing one that is not closed where it should be."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(tag for tag, _ in self.open), dict(self.open[-1:]).values()))
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(tag for tag, _ in self.open), ()))

    def handle_endtag(self, tag):
        assert self.open and self.open[-1][0] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes, *_ in self.elements if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    return to_html(make_content(make_results(), make_evidence()))


@pytest.fixture(scope="module")
def page(html) -> Page:
    return Page(html)


def test_the_page_needs_nothing_else(html):
    without_namespaces = re.sub(r' xmlns(:\w+)?="[^"]*"', "", html)
    assert not re.search(r"https?:|//|<link|<script|@import|<iframe|<object", without_namespaces)
    addresses = re.findall(r'(?:src|href|action|poster|srcset)="([^"]*)"', html) + re.findall(r"url\(([^)]*)\)", html)
    assert addresses
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "prefers-color-scheme: dark" in html


def test_every_identifier_is_one_of_a_kind_and_every_reference_has_its_target(html):
    identifiers = re.findall(r'\bid="([^"]*)"', html)
    assert len(identifiers) == len(set(identifiers)) > 100
    referred = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', html))
    assert {one or other for one, other in referred} <= set(identifiers)


def test_tables_scroll_and_pictures_are_described(page):
    tables = [parents for tag, _, parents, _ in page.elements if tag == "table"]
    boxes = [list(box) for tag, _, _, box in page.elements if tag == "table"]
    assert len(tables) == 3
    assert all(box[0]["class"] == "scroll" and box[0]["aria-label"] for box in boxes)
    images = page.all("img")
    assert len(images) == 3 * 5  # the worst, the median, one of each of three classes
    assert all(image["alt"] for image in images)
    assert len({image["alt"] for image in images}) == len(images)
    assert "lowest PSNR of all" in images[0]["alt"]
    assert "median PSNR" in images[3]["alt"]
    charts = [attributes for attributes in page.all("svg")]
    assert [chart["aria-label"] for chart in charts] == [
        "Accuracy of everybody who trains", "Accuracy per epoch, without countermeasure",
        "Accuracy per epoch, countermeasure class-means", "Accuracy per epoch, countermeasure low-pass",
        "Power by frequency", "Power of the perturbation by direction", "Authorized cnn, trained on the release",
    ]  # fmt: skip
    assert all(chart["role"] == "img" for chart in charts)


def test_charts_are_well_formed_and_take_their_colours_from_the_page(html):
    charts = re.findall(r"<svg .*?</svg>", html, flags=re.DOTALL)
    assert len(charts) == 7
    for chart in charts:
        ElementTree.fromstring(chart)
        assert "currentColor" in chart
        assert "#010203" not in chart
        assert not re.search(r"fill: #000000|stroke: #000000", chart)
    assert "var(--authorized)" in charts[0]
    assert "var(--wrong-key)" in charts[0]
    for name in ("authorized", "hacker", "wrong-key", "distilled"):
        assert html.count(f"--{name}: #") == 2  # light and dark


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no chromium: nothing lays the page out")
def test_in_a_browser_nothing_overflows_and_pictures_are_there(html, tmp_path):
    frames = "".join(f'<iframe style="width:{width}px" srcdoc="{escape(html)}"></iframe>' for width in (360, 1440))
    measure = """<script>addEventListener("load", () => {
      document.body.textContent = JSON.stringify([...document.querySelectorAll("iframe")].map((frame) => {
        const page = frame.contentDocument, root = page.documentElement, pictures = [...page.images];
        return [root.scrollWidth - root.clientWidth, pictures.length, pictures.filter((x) => !x.naturalWidth).length,
          page.querySelectorAll("svg").length, page.compatMode];
      }));
    });</script>"""
    (tmp_path / "frames.html").write_text(f"<!doctype html><meta charset=utf-8><body>{frames}{measure}")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=10000", "--dump-dom", (tmp_path / "frames.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    found = re.search(r"<body>(\[.*\])</body>", done.stdout)
    assert found, done.stderr
    overflow_pictures_broken_charts_mode = json.loads(found[1])
    assert overflow_pictures_broken_charts_mode == [[0, 15, 0, 7, "CSS1Compat"]] * 2


def test_pictures_hold_the_pixels(page, html):
    evidence = make_evidence()
    assert f"--side: {evidence.originals.shape[2]}px" in html  # by multiples of which they are enlarged
    shown = [Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) for image in page.all("img")]
    np.testing.assert_array_equal(np.asarray(shown[3]), evidence.originals[1])
    np.testing.assert_array_equal(np.asarray(shown[4]), evidence.released[1])
    black, white = (np.array([[[level]]], np.uint8) for level in (92, 108))
    middle = np.array([[[100]]], np.uint8)
    assert [int(amplified(middle, x, 8)[0, 0, 0]) for x in (black, middle, white)] == [0, 128, 255]
    assert int(amplified(middle, middle, 0)[0, 0, 0]) == 128


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    """What would have been saved as a picture."""
    drawn = []
    monkeypatch.setattr(pictures, "_save", lambda figure, path: drawn.append(figure))
    return drawn


@pytest.mark.parametrize("levels", [0, 3])
def test_the_last_row_of_the_images_goes_as_far_as_the_largest_change(levels, figures, tmp_path):
    originals = np.full((3, 2, 2, 1), 100, np.uint8)
    released = (originals + np.array([-levels, 0, levels])[:, None, None, None]).astype(np.uint8)
    draw_images(tmp_path / "images.png", originals, released, np.arange(3), ("a", "b", "c"), levels)
    last = figures[0].axes[6:]
    assert last[0].get_ylabel() == f"difference\n(±{max(1, levels)}/255)"
    shown = [int(axis.images[0].get_array()[0, 0]) for axis in last]
    assert shown == ([0, 128, 255] if levels else [128, 128, 128])


@pytest.mark.parametrize(
    ("shape", "panel"),
    [((8, 8, 1), (160, 160)), ((32, 24, 3), (160, 120)), ((90, 64, 3), (90, 64)), ((320, 160, 3), (160, 80))],
)
def test_a_pixel_of_an_image_is_a_square_of_whole_pixels_of_the_picture(shape, panel, figures, tmp_path):
    originals = np.zeros((2, *shape), np.uint8)
    draw_images(tmp_path / "images.png", originals, originals, np.arange(2), ("a", "b"), 1)
    assert len(figures[0].axes) == 6
    for axis in figures[0].axes:
        box = axis.get_window_extent()
        assert (box.height, box.width) == pytest.approx(panel)
        assert (box.x0, box.y0) == pytest.approx((round(box.x0), round(box.y0)))
        assert (axis.images[0].get_interpolation() == "nearest") == (max(shape) <= 160)


def test_what_students_were_taught_with_is_no_counter_measure(figures, tmp_path):
    rows = [make_row("hacker", "grey", 0.5, 0.2), make_row("distilled", "released-hard", 0.5, 0.5)]
    draw_curves(tmp_path / "curves.png", rows, [row["by_epoch"] for row in rows])
    assert [axis.get_title() for axis in figures[0].axes] == ["countermeasure: grey", "distillation: released-hard"]
    (legend,) = figures[0].legends
    assert {text.get_text() for text in legend.get_texts()} == {"hacker", "distilled", "trained on originals"}
    charts = "".join(curve_charts(make_content(make_results(rows), None)))
    assert "Accuracy per epoch, distillation released-hard" in charts
    content = make_content(make_results([make_row("hacker", "none", 0.5, 0.2), rows[1]]), None)
    assert any("No countermeasure was evaluated" in limit for limit in content.limits)


def test_where_nobody_trains_on_the_release_the_sentence_says_so():
    assert verdict(make_results([make_row("hacker", "only-clean-20", 0.5, 0.5)])["summary"]) == (
        "Nobody trained on the release."
    )


def test_what_users_wrote_is_text(html, page):
    assert "<title>photos &amp; more, protected by uge</title>" in html
    assert "<dog>" in page.text
    assert "<dog>" not in html


def test_the_same_evaluation_gives_the_same_page(html):
    assert to_html(make_content(make_results(), make_evidence())) == html


def test_the_verdict_is_said_with_its_uncertainty():
    content = make_content(make_results(), None)
    low, high = interval(0.8, 100)
    assert content.verdict == (
        f"The partner, who holds the key, gets an accuracy of 0.800 (95\u00a0%: {low:.3f} to {high:.3f}) from the "
        "release; the same network without its secret part gets 0.900 from the originals. Hackers without "
        "countermeasure get 0.250 on average. The best of all hackers, hacker cnn with class-means, gets 0.450 "
        "(95\u00a0%: 0.356 to 0.548), and 0.500 from the originals. Guessing gives 0.333."
    )
    assert "trained once" in content.uncertainty
    attack = make_content(make_results([make_row("hacker", "none", 0.5, 0.2)]), None)
    assert attack.verdict.startswith("Hackers without countermeasure get 0.200 on average.")
    assert any("No hacker who knows the method" in limit for limit in attack.limits)
    assert any("No countermeasure" in limit for limit in attack.limits)


def test_the_one_accuracy_of_an_ensemble_belongs_to_its_last_epoch(tmp_path):
    assert epochs_of([0.1, 0.2], 2).tolist() == [1, 2]
    assert epochs_of([0.3], 15).tolist() == [15]
    row = make_row("hacker", "random-projections-5", 0.5, 0.3, epochs=15, by_epoch={"clean": [0.5], "protected": [0.3]})
    (chart,) = curve_charts(make_content(make_results([row]), None))
    assert "countermeasure random-projections-5" in chart
    draw_curves(tmp_path / "curves.png", [row], [row["by_epoch"]])
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_intervals_are_wilsons():
    assert interval(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert interval(1.0, 10) == pytest.approx((1 / (1 + 1.959964**2 / 10), 1.0))


def test_rows_of_several_seeds_are_one_line():
    rows = [make_row("hacker", "none", 0.5, 0.2), make_row("hacker", "none", 0.7, 0.4, seed=1)]
    rows += [make_row("distilled", "own-soft", 0.5, 0.5), make_row("distilled", "released-soft", 0.5, 0.5)]
    hacker, own, released = group_rows(rows, 100)
    assert (hacker.clean, hacker.protected) == pytest.approx((0.6, 0.3))
    assert (hacker.spread, hacker.seeds) == ((0.2, 0.4), 2)
    assert hacker.share == pytest.approx(0.5)
    assert len(hacker.curves) == 2
    # Who learned from half of the test images is scored on the other half.
    assert (own.low, own.high) == interval(0.5, 50)
    assert (released.low, released.high) == interval(0.5, 100)


def test_the_table_has_the_key_holder_first_and_the_strongest_counter_measure_before_weaker_ones():
    titles = [group.title for group in make_content(make_results(), None).groups]
    assert titles == [
        "authorized cnn",
        "hacker cnn",
        "wrong key cnn",
        "hacker cnn, class-means",
        "hacker cnn, low-pass",
    ]


def test_the_limits_name_what_an_adaptive_hacker_got():
    limits = " ".join(make_content(make_results(), make_evidence()).limits)
    assert "from the release got 0.450 (cnn, class-means), where the originals give 0.500" in limits
    assert "It is class-wise." in limits
    assert f"shows {len(set(make_evidence().index))} of the originals" in limits
    assert "up to 0.550 (hacker cnn, class-means)" in limits
    last = [row | {"protected_peak_accuracy": row["protected_accuracy"]} for row in make_results()["rows"]]
    assert not any("stops early" in limit for limit in make_content(make_results(last), None).limits)
    last[1] |= {"protected_peak_accuracy": 0.46}  # of class-means
    last[0] |= {"protected_accuracy": 0.5, "protected_peak_accuracy": 0.5}  # gets more, and nothing by stopping early
    assert any("up to 0.460" in limit for limit in make_content(make_results(last), None).limits)
    seeded = make_content(make_results(card=CARD | {"key_from_seed": True}), None)
    assert any("whoever guesses the seed" in limit for limit in seeded.limits)


def test_evidence_is_of_the_worst_and_the_median_image_and_of_each_class():
    evidence = make_evidence()
    psnr = [
        10 * np.log10(255**2 / ((r.astype(float) - o) ** 2).mean())
        for o, r in zip(evidence.originals, evidence.released, strict=True)
    ]
    np.testing.assert_allclose(evidence.psnr, psnr)
    assert evidence.psnr[0] == min(evidence.psnr)
    assert evidence.index[2:].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(evidence.labels, evidence.index % 3)
    same = np.repeat(evidence.originals[:1], 12, axis=0)
    untouched = make_evidence(originals=same, released=same)
    assert np.isinf(untouched.psnr).all()
    assert "unchanged" in to_html(make_content(make_results(), untouched))


def test_power_is_that_of_the_perturbation():
    wave = np.rint(40 * np.cos(2 * np.pi * np.arange(8) / 4))  # 0.25 cycles per pixel, along each row
    noise = np.broadcast_to(wave[None, None, :, None], (12, 8, 8, 1)).astype(np.int16)
    originals = np.full((12, 8, 8, 1), 100, np.uint8)
    evidence = make_evidence(originals=originals, released=(originals + noise).astype(np.uint8))
    # Parseval: the power of a frequency is its share of the energy, which is 64 / 2 squared amplitudes.
    assert evidence.noise_power.sum() == pytest.approx(((noise[0] / 255) ** 2).sum())
    assert np.argwhere(evidence.noise_power > 1e-9).tolist() == [[4, 2], [4, 6]]
    assert np.argwhere(evidence.originals_power > 1e-9).tolist() == [[4, 4]]
    frequencies, means = radial_mean(evidence.noise_power)
    assert frequencies[means > 1e-9].tolist() == [0.25]
    assert radial_mean(np.full((5, 8), 3.0))[1].tolist() == pytest.approx([3.0] * 6)


def test_evidence_survives_its_file(tmp_path):
    evidence = make_evidence(learned={"a": np.ones((12, 2), np.float32), "b": np.ones((12, 5), np.float32)})
    write_evidence(tmp_path / "evidence.npz", evidence)
    again = read_evidence(tmp_path / "evidence.npz")
    for field in dataclasses.fields(evidence):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(evidence, field.name))
    assert again.features.shape == (2, 12, 5)
    assert read_evidence(tmp_path / "nothing.npz") is None
    (tmp_path / "evidence.npz").write_bytes((tmp_path / "evidence.npz").read_bytes()[:-30])
    with pytest.raises(UserError, match=r"evidence\.npz: damaged"):
        read_evidence(tmp_path / "evidence.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.npz"]


def test_layouts_keep_clusters_apart():
    labels = np.arange(60) % 2
    features = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    features[:, 0] += 40 * labels
    layout = laid_out(features)
    assert layout.shape == (60, 2)
    distances = np.linalg.norm(layout[:, None] - layout, axis=-1) + 1e9 * np.eye(60)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    assert not laid_out(np.zeros((12, 4), np.float32)).any()


def test_an_evaluation_of_an_earlier_version_is_reported_too():
    results = make_results([row | {"by_epoch": {"clean": [], "protected": []}} for row in make_results()["rows"]])
    del results["card"]
    html = to_html(make_content(results, None))
    Page(html)
    assert "<img" not in html
    assert html.count("Not recorded by this evaluation") == 3


def test_the_text_says_the_same(tmp_path):
    (tmp_path / "accuracy.png").touch()
    content = make_content(make_results(), make_evidence())
    text = to_markdown(content, tmp_path)
    assert content.verdict in text
    for limit in content.limits:
        assert f"- {limit}" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(content.groups)
    assert {len(re.split(r"(?<!\\)\|", line)) for line in table} == {len(table[0].split("|"))}
    assert "](accuracy.png)" in text
    assert "](images.png)" not in text


def test_no_name_is_markup_in_the_text(tmp_path):
    evil = "<img src=x onerror=alert(1)> [a](http://b) ![c](d) `e`\n# f | g & h"
    content = dataclasses.replace(
        make_content(make_results(), make_evidence()), class_names=(evil,) * 3, limits=(evil,), title=evil,
        facts=((evil, evil),), settings=((evil, evil),),
    )  # fmt: skip
    text = to_markdown(content, tmp_path)
    assert text.count("&lt;img src=x onerror=alert(1)> \\[a\\](http://b) !\\[c\\](d) \\`e\\` # f | g &amp; h") >= 7
    assert "<" not in text and "\n# f" not in text
    assert re.findall(r"(?<!\\)\]\(", text) == []


def test_a_report_is_written_beside_what_it_is_of(tmp_path):
    make_run(tmp_path)
    assert write_report(tmp_path) == [tmp_path / "report.html", tmp_path / "report.md"]
    before = (tmp_path / "report.html").read_bytes()
    write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "evidence.npz", "report.html", "report.md"}
    for damaged in ("[]", "{", '{"rows": 1}', '{"rows": [], "n_test": 0}'):
        (tmp_path / "results.json").write_text(damaged)
        with pytest.raises(UserError, match="not the results of an evaluation"):
            write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before


def test_what_is_not_in_the_release_is_told():
    card = CARD | {"left_out": {"images that cannot be read": 2, "hidden files": 3}, "unused_splits": {"<val>": 80}}
    page = to_html(make_content(make_results(card=card), None))
    assert "2 images that cannot be read, 3 hidden files" in page
    assert "80 &lt;val&gt;" in page
    assert "left out of the source" not in to_html(make_content(make_results(), None))
