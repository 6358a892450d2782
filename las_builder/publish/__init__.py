"""The catalogue and the card: what was built, for those who look for data; and reading it back."""

from las_builder.publish.card import write_cards
from las_builder.publish.stac import CorpusInfo, publish

__all__ = ["CorpusInfo", "publish", "write_cards"]
