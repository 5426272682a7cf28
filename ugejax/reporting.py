"""The type of functions that report the progress of a long computation."""

from collections.abc import Callable

# (stage, done, of, figures): of the stage's steps so many are done, and figures by name are those of the last one.
Report = Callable[[str, int, int, dict[str, float]], None]
