"""A report as one HTML page that needs nothing else."""

import base64
import io
from collections.abc import Iterable
from html import escape

import numpy as np
from PIL import Image

from ugejax.markup import html_list, html_page, html_table
from ugejax.report.charts import accuracy_chart, colour_variables, curve_charts, feature_charts, spectrum_charts
from ugejax.report.content import (
    FEATURES,
    HEAD,
    NO_FEATURES,
    NOT_RECORDED,
    TABLE_NOTES,
    Content,
    image_title,
    images_note,
    table_cells,
)
from ugejax.report.evidence import Evidence
from ugejax.report.pictures import amplified

STYLE = f"""\
:root {{ {colour_variables()} }}
@media (prefers-color-scheme: dark) {{
  :root {{ --authorized: #56b4e9; --hacker: #f08a4b; --wrong-key: #e3a0c4; --distilled: #2fc79b; }}
}}
.verdict {{ font-size: 1.15rem; border-left: 0.25rem solid var(--authorized); padding-left: 0.8rem; }}
.quiet {{ color: var(--quiet); font-size: 0.9rem; }}
td.text {{ text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 9rem; max-width: 40rem; }}
.charts, .images {{
  display: grid; gap: 1.5rem 2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr));
}}
.images {{ align-items: end; }}
figure {{ margin: 0; min-width: 0; }}
figure > svg {{ display: block; width: 100%; max-width: 34rem; height: auto; }}
figcaption {{ font-size: 0.9rem; font-weight: 600; margin-bottom: 0.3rem; overflow-wrap: anywhere; }}
.charts + .scroll {{ margin-top: 1.5rem; }}
.images figcaption {{ font-weight: 400; color: var(--quiet); }}
.triple {{ display: grid; grid-template-columns: repeat(3, 1fr); gap: 0.4rem; max-width: 34rem; }}
.triple img {{ width: 100%; image-rendering: pixelated; border: 1px solid var(--rule); box-sizing: border-box; }}
details {{ margin-top: 1rem; }}
summary {{ cursor: pointer; }}
"""


def to_html(content: Content) -> str:
    """The text of `report.html`."""
    parts = [
        f'<p class="verdict">{escape(content.verdict)}</p>',
        f'<p class="quiet">{escape(content.uncertainty)}</p>',
        "<h2>What was protected</h2>",
        _pairs("What was protected", content.facts),
    ]
    if content.settings:
        settings = _pairs("Settings of the method", content.settings)
        parts += ["<details>", "<summary>All settings of the method</summary>", settings, "</details>"]
    evidence = content.evidence
    missing = f'<p class="quiet">{escape(NOT_RECORDED)}</p>'
    lines = [("", title, [(text, "") for text in cells]) for title, *cells in map(table_cells, content.groups)]
    parts += [
        "<h2>Originals, what is released, and the difference</h2>",
        missing if evidence is None else _images(content, evidence),
        "<h2>Who learns what</h2>",
        _charts([accuracy_chart(content)]),
        html_table("Accuracy", HEAD, lines),
        html_list(TABLE_NOTES),
        "<h2>Accuracy per epoch</h2>",
        _charts(curve_charts(content)),
        "<h2>Where the perturbation lies in frequency</h2>",
        missing if evidence is None else _charts(spectrum_charts(evidence)),
        "<h2>What the networks see in clean test images</h2>",
    ]
    if evidence is None or not len(evidence.features):
        parts.append(missing if evidence is None else f'<p class="quiet">{escape(NO_FEATURES)}</p>')
    else:
        parts += [f'<p class="quiet">{escape(FEATURES)}</p>', _charts(feature_charts(content, evidence))]
    parts += ["<h2>Limits</h2>", html_list(content.limits)]
    return html_page(content.title, "\n".join(parts), STYLE)


def _pairs(label: str, pairs: Iterable[tuple[str, str]]) -> str:
    return html_table(label, (), [("", name, [(value, "text")]) for name, value in pairs])


def _charts(charts: Iterable[str]) -> str:
    return "\n".join(['<div class="charts">', *charts, "</div>"])


def _images(content: Content, evidence: Evidence) -> str:
    parts = [f'<p class="quiet">{escape(images_note(content))}</p>', '<div class="images">']
    for place, (original, released) in enumerate(zip(evidence.originals, evidence.released, strict=True)):
        title = image_title(content, evidence, place)
        pictures = zip(
            ("original", "released", "difference"),
            (original, released, amplified(original, released, content.levels)),
            strict=True,
        )
        parts += ["<figure>", f"<figcaption>{escape(title)}</figcaption>", '<div class="triple">']
        parts += [f'<img src="{_data_uri(image)}" alt="{escape(f"{kind}, {title}")}">' for kind, image in pictures]
        parts += ["</div>", "</figure>"]
    return "\n".join([*parts, "</div>"])


def _data_uri(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
