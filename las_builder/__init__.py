"""Build, audit, publish and train on LAS-style land-cover corpora.

The command is `las`; the nouns are in `las_builder.core.types`; the way the data goes is in
`ARCHITECTURE.md`. Importing this package imports nothing heavy. To read a published corpus:

    corpus = las_builder.open_corpus("https://.../demo")
"""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "open_corpus":
        # By name: nothing that everything imports may import what is on top of it.
        return importlib.import_module("las_builder.publish.corpus").open_corpus
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
