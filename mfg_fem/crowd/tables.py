"""Columns of numbers as CSV."""

import csv
import io
from collections.abc import Mapping

import numpy as np


def as_csv(columns: Mapping[str, np.ndarray]) -> str:
    """A header and a line for each row; nothing where a number is NaN."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow("" if np.isnan(y) else f"{y:.8g}" for y in row)
    return text.getvalue()
