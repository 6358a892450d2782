"""Labels from several products, better than any of them, with a confidence that means something.

`Design` says what can be known beforehand, `fit` learns from counts of tuples of symbols, and the
`Consensus` that comes of it labels patches; `calibrate` makes its confidence hold on reference
points. The model is in docs/consensus.md.
"""

from las_builder.harmonise.consensus.calibrate import Calibration, calibrate
from las_builder.harmonise.consensus.classes import REST, Classes
from las_builder.harmonise.consensus.dawid_skene import Tuples
from las_builder.harmonise.consensus.fitting import Design, fit, joined
from las_builder.harmonise.consensus.model import ROOT, Consensus
from las_builder.harmonise.consensus.symbols import Ballot
from las_builder.harmonise.consensus.voters import published_overall

__all__ = [
    "REST",
    "ROOT",
    "Ballot",
    "Calibration",
    "Classes",
    "Consensus",
    "Design",
    "Tuples",
    "calibrate",
    "fit",
    "joined",
    "published_overall",
]
