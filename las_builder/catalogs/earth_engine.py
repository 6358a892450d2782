"""The shape of `catalogs/earth-engine/*.yaml`: limits, errors and what is taken for granted."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from las_builder.catalogs.models import Declared

Then = Literal["retry", "split", "stop", "fail"]


class ErrorRule(Declared):
    """What an answer means: the first rule that fits."""

    kind: str
    status: list[int] = Field(min_length=1)
    message: str | None = None
    """Regular expression found in the provider's words, whatever the case; None: any."""

    then: Then
    wants: str = ""
    """Of `stop`: what would have been right."""

    say: str = ""
    """What the user can do."""

    verified: bool
    source: str

    @field_validator("message")
    @classmethod
    def _pattern(cls, text: str | None) -> str | None:
        try:
            re.compile(text or "")
        except re.error as problem:
            raise ValueError(f"a regular expression ({problem})") from None
        return text

    @model_validator(mode="after")
    def _said(self) -> ErrorRule:
        if self.then == "stop" and not (self.wants and self.say):
            raise ValueError("`wants` and `say` with then: stop")
        return self

    def fits(self, status: int, message: str) -> bool:
        """Whether an answer with this status and these words is meant."""
        return status in self.status and (
            self.message is None or re.search(self.message, message, re.IGNORECASE) is not None
        )


class Errors(Declared):
    """`errors.yaml`."""

    rules: list[ErrorRule] = Field(min_length=1)

    def rule(self, status: int, message: str) -> ErrorRule | None:
        """The first that fits; None: nobody knows."""
        return next((rule for rule in self.rules if rule.fits(status, message)), None)


class Assumption(Declared):
    """What code and tests take the service to do."""

    number: int
    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    says: str
    verified: bool
    source: str


class Assumptions(Declared):
    """`assumptions.yaml`."""

    rows: list[Assumption] = Field(min_length=1)


class EarthEngineService(Declared):
    """`service.yaml`."""

    title: str
    endpoint: str
    per_second: float = Field(gt=0)
    in_flight: int = Field(ge=1)
    read_s: float = Field(gt=0)
    """Seconds between two bytes of an answer."""

    max_bytes: int = Field(gt=0)
    max_side: int = Field(gt=0)
    max_bands: int = Field(gt=0)
    tiers: dict[str, float]
    """Name to EECU-hours a month."""

    verified: bool
    sources: list[str]
    errors: Errors
    """Of its own file."""
