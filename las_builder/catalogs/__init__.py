"""What exists: imagery, label products, the ontology, taxonomies, strata; one YAML file a thing."""

from las_builder.catalogs.loader import Catalogs
from las_builder.catalogs.models import (
    Imagery,
    LabelClass,
    LabelProduct,
    Ontology,
    Taxonomy,
    TaxonomyClass,
    Where,
)

__all__ = [
    "Catalogs",
    "Imagery",
    "LabelClass",
    "LabelProduct",
    "Ontology",
    "Taxonomy",
    "TaxonomyClass",
    "Where",
]
