"""Residual networks from mean-field velocities: layers that follow the flow of a solution."""

from importlib import import_module

from mfg_fem.errors import MissingPackage, needs
from mfg_fem.flows.field import LeavesDomain, VelocityField
from mfg_fem.resnet.criteria import Criteria, criteria
from mfg_fem.resnet.extremal import PontryaginSolution
from mfg_fem.resnet.fit import fit
from mfg_fem.resnet.network import ResNet
from mfg_fem.resnet.pontryagin import Pontryagin
from mfg_fem.resnet.recommend import Recommendation, recommend
from mfg_fem.resnet.report import FitReport, FoldingLayers, margins, report

__all__ = [
    "Criteria",
    "FitReport",
    "FoldingLayers",
    "LeavesDomain",
    "MeanFieldClassifier",
    "MissingPackage",
    "Pontryagin",
    "PontryaginClassifier",
    "PontryaginSolution",
    "Recommendation",
    "ResNet",
    "VelocityField",
    "criteria",
    "fit",
    "margins",
    "recommend",
    "report",
]


CLASSIFIERS = {
    "MeanFieldClassifier": "mfg_fem.resnet.classifier",
    "PontryaginClassifier": "mfg_fem.resnet.pontryagin_classifier",
}


def __getattr__(name: str):
    # scikit-learn is needed by the classifiers alone.
    if name in CLASSIFIERS:
        needs("sklearn", "scikit-learn")
        return getattr(import_module(CLASSIFIERS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
