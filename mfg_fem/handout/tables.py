"""The numbers of a report, and its tables, with units in the names of columns."""

import csv
import io
from typing import Any

import numpy as np

import mfg_fem.crowd as crowd
