"""A report as one HTML page that needs nothing else."""

import base64
import io
from collections.abc import Iterable, Iterator

import numpy as np
from markupsafe import Markup
from PIL import Image

from ugejax.app.markup import html_page
from ugejax.app.report.charts import accuracy_chart, colour_variables, curve_charts, feature_charts, spectrum_charts
from ugejax.app.report.content import (
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
from ugejax.app.report.evidence import Evidence
from ugejax.app.report.pictures import amplified


def to_html(content: Content) -> str:
    """The text of `report.html`."""
    evidence = content.evidence
    shown = (
        {}
        if evidence is None
        else {
            "images_note": images_note(content),
            "images": _images(content, evidence),
            "side": evidence.originals.shape[2],
            "spectra": map(Markup, spectrum_charts(evidence)),
            "features": [Markup(chart) for chart in feature_charts(content, evidence)]
            if len(evidence.features)
            else [],
        }
    )
    return html_page(
        "report.html", title=content.title, content=content, colours=colour_variables(), facts=_pairs(content.facts),
        settings=_pairs(content.settings), accuracy=Markup(accuracy_chart(content)),
        curves=map(Markup, curve_charts(content)), head=HEAD, notes=TABLE_NOTES, not_recorded=NOT_RECORDED,
        groups=[("", title, [(text, "") for text in cells]) for title, *cells in map(table_cells, content.groups)],
        features_note=FEATURES, no_features=NO_FEATURES, **shown,
    )  # fmt: skip


def _pairs(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The lines of a table of names and values."""
    return [("", name, [(value, "text")]) for name, value in pairs]


def _images(content: Content, evidence: Evidence) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Of every image its title and its pictures: what each is, and its address."""
    for place, (original, released) in enumerate(zip(evidence.originals, evidence.released, strict=True)):
        difference = amplified(original, released, content.levels)
        pictures = {"original": original, "released": released, "difference": difference}
        yield image_title(content, evidence, place), [(kind, _data_uri(image)) for kind, image in pictures.items()]


def _data_uri(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
