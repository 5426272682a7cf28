"""`ugejax verify`: re-read a release and check all that can be checked."""

import argparse
import dataclasses
import sys
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from ugejax.app.cli.opening import open_key, open_network
from ugejax.app.cli.originals import load_originals
from ugejax.app.keys import build_authorized
from ugejax.app.release import Check, describe_change, read_release, verify_release
from ugejax.app.results import write_results
from ugejax.authorized import AuthorizedNetwork, Key, secret_words, seen


def run(arguments: argparse.Namespace) -> int:
    """Print a line a check; exit code 1 if one failed."""
    key = open_key(arguments.key, arguments.passphrase_file) if arguments.key else None
    question: dict[str, Any] = {
        "key_fingerprint": key.fingerprint if key else None,
    }
    if key is not None:
        question["key_secrets"], question["key_numbers"] = secret_words(key, build_authorized(key, arguments.key))
    originals = None
    checks = verify_release(arguments.release, **question)
    # Which originals belong to it only a whole release can tell.
    if arguments.originals and all(check.ok for check in checks):
        name = None if arguments.originals == "card" else arguments.originals
        originals = load_originals(arguments.release, read_release(arguments.release), name, arguments.data_dir)
        checks = verify_release(arguments.release, originals=originals, **question)
    if key is not None and originals is not None and all(check.ok for check in checks):
        release = read_release(arguments.release)
        network = open_network(key, arguments.key, release.card, arguments.release)
        checks.append(_blindness(release.images, originals.images, key, network))
    console = Console(file=sys.stdout, soft_wrap=True)
    for check in checks:
        console.print(
            f"{'[green]ok    [/]' if check.ok else '[red]FAILED[/]'} {escape(check.name)}: {escape(check.detail)}",
            highlight=False,
        )
    passed = all(check.ok for check in checks)
    console.print(f"{sum(check.ok for check in checks)} of {len(checks)} checks passed")
    change = None if passed else describe_change(arguments.release)
    if change is not None:
        console.print(f"what was changed: {change}", markup=False, highlight=False)
    if arguments.out:
        write_results(
            arguments.out,
            {
                "schema": 1,
                "passed": passed,
                "checks": [dataclasses.asdict(check) for check in checks],
                **({} if change is None else {"change": change}),
            },
        )
    return 0 if passed else 1


def _blindness(released: np.ndarray, originals: np.ndarray, key: Key, network: AuthorizedNetwork) -> Check:
    """Whether the authorized network sees the released images as it sees the originals."""
    if not network.view.blind:
        return Check("blindness", True, f"{key.form} has no blind set; its gradients are matched, not equal")
    seen_released, seen_originals = seen(network.view, released), seen(network.view, originals)
    difference = 255 * float(np.abs(seen_released - seen_originals).max())
    # A subspace is met up to the rounding of n values to whole levels; cells are met exactly.
    allowed = 0.0 if network.view.patch is None else 0.5 * (network.view.patch**2 * released.shape[-1]) ** 0.5 * 2
    detail = f"the authorized network's view of release and originals differs by at most {difference:.3g} grey levels"
    return Check("blindness", difference <= allowed, detail)
