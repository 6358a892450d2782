"""Build, audit, publish and train on LAS-style land-cover corpora.

The command is `las`; the nouns are in `las_builder.core.types`; the way the data goes is in
`ARCHITECTURE.md`. Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
