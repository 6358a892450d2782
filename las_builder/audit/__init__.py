"""What the products say of each other: composition and agreement, with the site as the unit."""

from las_builder.audit.agreement import (
    Agreement,
    AuditJob,
    Composition,
    SiteCounts,
    agreement,
    composition,
    count_block,
    merge,
    ratio,
)
from las_builder.audit.page import write_page

__all__ = [
    "Agreement",
    "AuditJob",
    "Composition",
    "SiteCounts",
    "agreement",
    "composition",
    "count_block",
    "merge",
    "ratio",
    "write_page",
]
