"""Sphinx's settings of the book; what is special about it is in `book.py`.

sphinx-build -W --keep-going -n -j auto docs docs/_build/html
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("PYTHONPATH", str(HERE.parent))  # of the kernels
os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # kernels of frozen modules warn without it

import mfg_fem  # noqa: E402

# What makes demos small enough for the book: each takes less than half a minute on two cores.
DEMOS = {
    "around_pillars": "--steps 12",
    "batch_job": "--index 2 --steps 15",
    "bridge": "--diffusion 0.2 0.06 0.02 2e-3",
    "certificate": "--cells 5 10 --players 40 1000",
    "congestion_on_a_torus": "--square 25 50",
    "crowd_evacuation": "--steps 18 --horizon 45",
    "energy_of_layers": "--layers 8 16 32",
    "floor_plans": "--steps 30 --size 1",
    "from_network_to_schroedinger": "--points 300 --cells 32 --iterations 20",
    "game_or_control": "--steps 12",
    "noise_and_depth": "--points 400 --tests 1000 --noises 0 0.4 1 --layers 1 2 4 8 16 "
    "--widths 4 16 --solved-layers 8 --cells 30 --iterations 60",
    "real_data": "--data 'breast cancer' --splits 1",
    "station_doors": "--steps 24",
    "two_spirals": "--points 500 --cells 40 --iterations 100 --frames 3",
    "two_streams": "--cells 8 --steps 16 --aversions 0 0.5",
    "wealth": "--cells 50 100 --steps 20",
}

project = "mfg_fem"
author = copyright = "mfg_fem developers"
version = release = mfg_fem.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "book",
]
exclude_patterns = [
    "_build",
    "*.py",
    "demos/benchmarks/*.py",
    "demos/validation/*",
    "demos/classification.py",
]

html_theme = "furo"
html_title = f"mfg_fem {version}"
html_css_files = ["book.css"]
mathjax = find_spec("sphinx-mathjax-offline").submodule_search_locations[0]
html_static_path = ["_static", f"{mathjax}/static"]
mathjax_path = "mathjax/tex-chtml.js"  # from there, not from the network

nb_custom_formats = {".py": ["book.read_demo", {"options": DEMOS}]}
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_show_tb = True
nb_execution_timeout = 300
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "image/gif", 5)]
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

smartquotes = False
default_role = "code"
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 88
napoleon_numpy_docstring = False
toc_object_entries_show_parents = "hide"
