"""A small evaluation to report on."""

from pathlib import Path
from typing import Any

import numpy as np

from ugejax.app.report import gather, write_evidence
from ugejax.app.report.evidence import Evidence
from ugejax.app.results import write_results
from ugejax.evaluation import summarise

CARD = {
    "method": "uge", "authorized": {"network": "cnn", "form": "keyed-dither", "step": 24, "exact_blind_set": True},
    "class_names": ["cat", "<dog>", "a|b"], "eps": 8 / 255, "norm": "linf", "seed": 3, "n": 12,
    "image_shape": [8, 8, 3], "key_fingerprint": "abc123", "key_from_seed": False, "limits": ["It is class-wise."],
    "psnr": {"mean": 31.4, "min": 30.9}, "ssim": {"mean": 0.93, "min": 0.9}, "untouched_images": 0,
    "realised_eps": {"linf_levels": 8, "linf": 8 / 255, "l2_max": 1.5}, "versions": {"ugejax": "0.2.0"},
    "settings": {"eps": 8 / 255, "surrogates": ["res-tiny"]}, "source": {"name": "photos"},
}  # fmt: skip


def make_row(role: str, countermeasure: str, clean: float, protected: float, **changes: Any) -> dict[str, Any]:
    return {
        "role": role, "network": "cnn", "countermeasure": countermeasure, "clean_accuracy": clean,
        "protected_accuracy": protected, "protected_peak_accuracy": protected + 0.1, "retention": protected / clean,
        "epochs": 2, "seconds": 1.0, "seed": 0, "by_epoch": {"clean": [0.2, clean], "protected": [0.1, protected]},
        **changes,
    }  # fmt: skip


def make_results(rows: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    if rows is None:
        rows = [
            make_row("hacker", "low-pass", 0.5, 0.3), make_row("hacker", "class-means", 0.5, 0.45),
            make_row("wrong_key", "none", 0.5, 0.3), make_row("hacker", "none", 0.5, 0.2),
            make_row("authorized", "none", 0.8, 0.8, backbone_accuracy=0.9),
        ]  # fmt: skip
    return {
        "schema": 1, "dataset": "photos & more", "release": "R", "card": CARD, "n_train": 12, "n_test": 100, "seed": 3,
        "backend": "cpu", "realised_linf": 8, "rows": rows, "summary": summarise(rows), **changes,
    }  # fmt: skip


def make_evidence(**changes: Any) -> Evidence:
    random = np.random.default_rng(0)
    originals = random.integers(20, 236, (12, 8, 8, 3)).astype(np.uint8)
    noise = random.integers(-8, 9, originals.shape)
    noise[3] = 0
    labels = np.arange(12, dtype=np.int32) % 3
    given = {
        "originals": originals, "released": (originals + noise).astype(np.uint8), "labels": labels,
        "feature_labels": labels,
        "learned": {"authorized cnn, trained on the release": random.normal(size=(12, 4)).astype(np.float32)},
    }  # fmt: skip
    return gather(**{**given, **changes})


def make_run(folder: Path) -> Path:
    write_results(folder / "results.json", make_results())
    write_evidence(folder / "evidence.npz", make_evidence())
    return folder
