"""Residual networks from mean-field velocities: layers that follow the flow of a solution."""

from mfg_fem.resnet._optional import MissingPackage
from mfg_fem.resnet.adapter import fit
from mfg_fem.resnet.field import VelocityField
from mfg_fem.resnet.network import ResNet
from mfg_fem.resnet.recommend import Recommendation, recommend
from mfg_fem.resnet.report import FitReport, margins, report

__all__ = [
    "FitReport",
    "MissingPackage",
    "Recommendation",
    "ResNet",
    "VelocityField",
    "fit",
    "margins",
    "recommend",
    "report",
]
