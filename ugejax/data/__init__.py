"""Labelled image sets: what they are, where they come from, and seeded stratified subsets of them."""

from ugejax.data.dataset import Dataset, Splits, check_dataset, stratified_subset
from ugejax.data.sources import Source, load, load_all

__all__ = ["Dataset", "Source", "Splits", "check_dataset", "load", "load_all", "stratified_subset"]
