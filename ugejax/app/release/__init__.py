"""The release: protected images, their labels, a manifest and a card, in one folder that anyone may have."""

from ugejax.app.release.change import describe_change
from ugejax.app.release.quality import Quality, measure_quality
from ugejax.app.release.read import Release, key_fingerprints, read_release, salt_of
from ugejax.app.release.verify import Check, verify_release
from ugejax.app.release.write import write_release

__all__ = [
    "Check",
    "Quality",
    "Release",
    "describe_change",
    "key_fingerprints",
    "measure_quality",
    "read_release",
    "salt_of",
    "verify_release",
    "write_release",
]
