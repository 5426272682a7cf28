"""What a hacker does to the released images against the protection; a new one is one function and one registry line."""

from ugejax.countermeasures.hacker_data import HackerData
from ugejax.countermeasures.registry import COUNTERMEASURES, Countermeasure, countermeasure_of, parse_countermeasures

__all__ = ["COUNTERMEASURES", "Countermeasure", "HackerData", "countermeasure_of", "parse_countermeasures"]
