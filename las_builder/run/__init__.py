"""Stages over blocks: what is done is skipped, what is half done is written over."""

from las_builder.run.audit import audit
from las_builder.run.build import build
from las_builder.run.check import check, report, require
from las_builder.run.consensus import consensus
from las_builder.run.diff import diff
from las_builder.run.engine import Engine
from las_builder.run.estimate import estimate
from las_builder.run.export import export
from las_builder.run.extend import extend
from las_builder.run.fetch import fetch, reopen
from las_builder.run.licences import consented
from las_builder.run.look import look
from las_builder.run.pack import pack
from las_builder.run.publish import publish, push
from las_builder.run.sample import allocations, sample, summary
from las_builder.run.sample import extend as extend_plan
from las_builder.run.scenes import scenes
from las_builder.run.searched import searched
from las_builder.run.virtual import virtual

__all__ = [
    "Engine",
    "allocations",
    "audit",
    "build",
    "check",
    "consensus",
    "consented",
    "diff",
    "estimate",
    "export",
    "extend",
    "extend_plan",
    "fetch",
    "look",
    "pack",
    "publish",
    "push",
    "reopen",
    "report",
    "require",
    "sample",
    "scenes",
    "searched",
    "summary",
    "virtual",
]
