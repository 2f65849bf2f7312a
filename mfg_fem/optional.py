"""Packages that only some functions need: imported when they are called."""

import importlib

from mfg_fem.errors import MFGError


class MissingPackage(MFGError, ImportError):
    """An optional package is not installed."""


def needs(module: str, package: str):
    """Import a module, or say which package to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(
            f"This needs {package}, which is not installed: pip install {package}, "
            f"conda install {package}, or apt install python3-{package}."
        ) from error
