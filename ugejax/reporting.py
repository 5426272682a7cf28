"""How a long computation tells of its progress."""

from collections.abc import Callable

# (stage, done, of, figures): of the stage's steps so many are done, and figures by name are those of the last one.
Report = Callable[[str, int, int, dict[str, float]], None]
