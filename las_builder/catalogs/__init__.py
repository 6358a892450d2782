"""What exists: imagery, label products, the ontology, taxonomies, strata; one YAML file a thing."""

from las_builder.catalogs.annotated import AnnotatedSet
from las_builder.catalogs.loader import Catalogs
from las_builder.catalogs.models import (
    Imagery,
    LabelClass,
    LabelProduct,
    Ontology,
    StacProvider,
    Taxonomy,
    TaxonomyClass,
    Validity,
    VetoRules,
    Where,
)
from las_builder.catalogs.strata import Cities, Country, Strata

__all__ = [
    "AnnotatedSet",
    "Catalogs",
    "Cities",
    "Country",
    "Imagery",
    "LabelClass",
    "LabelProduct",
    "Ontology",
    "StacProvider",
    "Strata",
    "Taxonomy",
    "TaxonomyClass",
    "Validity",
    "VetoRules",
    "Where",
]
