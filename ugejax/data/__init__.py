"""Labelled image sets: what they are, where they come from, and seeded stratified subsets of them."""

from ugejax.data.account import Account
from ugejax.data.dataset import Dataset, Splits, Streamed, check_dataset, stratified_subset
from ugejax.data.sources import Source, load, load_all, load_stream
from ugejax.data.stream import Images
from ugejax.data.survey import Survey, survey

__all__ = [
    "Account",
    "Dataset",
    "Images",
    "Source",
    "Splits",
    "Streamed",
    "Survey",
    "check_dataset",
    "load",
    "load_all",
    "load_stream",
    "stratified_subset",
    "survey",
]
