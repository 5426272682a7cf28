"""`ugejax key show`: what a key is, and for which release; never its secret."""

import argparse
import dataclasses
import json

from ugejax.app.keys import public_part, releases_of


def run(arguments: argparse.Namespace) -> int:
    """Print what anybody may know of a key folder, a line each or as JSON."""
    key = public_part(arguments.key) | {
        "releases": [dataclasses.asdict(made) for made in releases_of(arguments.key)],
    }
    print(json.dumps(key, indent=2, sort_keys=True) if arguments.json else "\n".join(_lines(key)))
    return 0


def _lines(key: dict) -> list[str]:
    height, width, channels = key["image_shape"]
    step = f", step {key['step']} grey levels" if key["step"] else ""
    secret = "encrypted by a passphrase; what is said here was not checked" if key["locked"] else "readable"
    if key["from_seed"]:
        secret += "; follows from a seed, which may be guessed"
    lines = [
        f"fingerprint  {key['fingerprint']}",
        f"form         {key['form']}{step}",
        f"network      {key['network']}, {key['recipe']['epochs']} epochs",
        f"images       {height}x{width}x{channels}, {key['num_classes']} classes",
        f"version      {key['version']}" + (" (ugejax 0.1: makes no releases)" if key["version"] == 1 else ""),
        f"secret       {secret}",
    ]
    made = [f"release      {one['name']}, salt {one['salt']}, run {one['run'][:16]}" for one in key["releases"]]
    return lines + (made or ["release      none yet"])
