"""Stages over blocks: what is done is skipped, what is half done is written over."""

from las_builder.run.engine import Engine
from las_builder.run.fetch import fetch
from las_builder.run.sample import sample
from las_builder.run.scenes import scenes

__all__ = ["Engine", "fetch", "sample", "scenes"]
