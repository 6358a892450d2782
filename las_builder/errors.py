"""Everything `las_builder` raises on purpose.

LasError                     exit code 1
├── InputError               exit code 2: what the user gave is wrong; nothing was written
│   ├── RecipeError          a recipe says something it must not
│   ├── CatalogError         a declaration in catalogs/ says something it must not
│   ├── UnknownNameError     nothing of this kind goes by this name
│   ├── SourceError          this provider cannot serve what the recipe asks
│   ├── RegionError          a region that is unknown, or has nothing to sample
│   ├── StacError            a STAC document lacks what is needed
│   ├── RasterError          a raster is truncated, or lacks a CRS, a band, a type
│   ├── LegendError          a label raster holds a code that its legend does not list
│   ├── ImportFolderError    the user's copy of an annotated set is not what its publisher laid out
│   ├── LicenceError         licences that contradict each other, or that nobody has accepted
│   ├── CheckpointError      weights of another model or size, or a file that is none
│   └── WorkspaceError       a workspace of another recipe, a full or a read-only disk
├── AccessError              a provider failed; `retryable` says whether asking again can help
├── GridMismatchError        two arrays meant for the same pixels lie on different grids
├── TrainingError            a loss that is no number: which step, which samples, what is left
├── LeakError                a train and a test site are nearer than the buffer
└── StageError               a stage ended with work that failed; its ledger says which

An `InputError` is one line: where, key, what was found, what is allowed, and the way out.
A `LasWarning` is one line on what was put right, or left out, without being asked.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LasError(Exception):
    """Base of every error raised on purpose."""

    exit_code = 1


class LasWarning(UserWarning):
    """What was given was put right, or left out in part; the work goes on."""


class InputError(LasError):
    """What the user gave is wrong.

    Args:
        where: File (or table, item, asset) at fault.
        key: The key, band, code or property at fault.
        found: The value found; shown with `repr`.
        allowed: What would have been right, in words.
        way_out: One clause saying what to do about it.
    """

    exit_code = 2

    def __init__(
        self, where: object, key: str, found: object, allowed: str, way_out: str = ""
    ) -> None:
        text = f"{where}: `{key}` is {found!r}; allowed: {allowed}"
        super().__init__(_one_line(f"{text}. {way_out}" if way_out else text))
        self.where, self.key, self.found, self.allowed = str(where), key, found, allowed
        self.way_out = way_out

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the trip from a worker process with all facts."""
        return type(self), (self.where, self.key, self.found, self.allowed, self.way_out)


class RecipeError(InputError):
    """A recipe file does not say what it must."""


class CatalogError(InputError):
    """A declaration in `catalogs/` does not say what it must."""


class SourceError(InputError):
    """The provider named cannot serve this imagery or label product."""


class RegionError(InputError):
    """A region that nobody knows, or that holds nothing to sample."""


class StacError(InputError):
    """A STAC document lacks a field or an asset that reading needs."""


class RasterError(InputError):
    """A raster cannot be read as what it is said to be."""


class LegendError(InputError):
    """A label raster holds codes that its product's legend does not list."""


class ImportFolderError(InputError):
    """A copy of an annotated set that is not whole, or not laid out as declared."""


class LicenceError(InputError):
    """Licences that cannot be kept at once, or that the user has not accepted."""


class CheckpointError(InputError):
    """A checkpoint is damaged, or of another model or size than the one it is to fill."""


class WorkspaceError(InputError):
    """A workspace that cannot be written, or that another recipe made."""


class UnknownNameError(InputError):
    """Nothing of this kind goes by this name; the nearest name is offered.

    Args:
        kind: What was looked for, e.g. "label product".
        name: The name that nothing has.
        known: The names that exist.
        where: The file that asked, and where a new one would go.
        key: The key of that file.
    """

    def __init__(
        self, kind: str, name: str, known: Iterable[str], *, where: object, key: str
    ) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"Did you mean {near[0]!r}?" if near else ""
        super().__init__(where, key, name, f"a {kind} among {_listed(name, names)}", hint)
        self.kind, self.name, self.known = kind, name, names

    def __reduce__(self) -> tuple[object, ...]:
        return _unknown_name, (self.kind, self.name, self.known, self.where, self.key)


MANY_NAMES = 24
"""Names that a message lists at most."""


def _listed(name: str, names: list[str]) -> str:
    """All names, or of many those most like the one that nothing has."""
    if len(names) <= MANY_NAMES:
        return ", ".join(names) or "(none)"
    near = difflib.get_close_matches(name, names, n=MANY_NAMES // 2, cutoff=0.3)
    shown = sorted([*near, *[n for n in names if n not in near][: MANY_NAMES // 2 - len(near)]])
    return f"{', '.join(shown)} and {len(names) - len(shown)} more"


def _unknown_name(kind: str, name: str, known: list[str], where: str, key: str) -> UnknownNameError:
    return UnknownNameError(kind, name, known, where=where, key=key)


class AccessError(LasError):
    """A data provider did not answer as it should.

    Args:
        provider: Who was asked.
        what: What was asked for: an href, a collection, an image id.
        problem: What came back, verbatim where possible.
        retryable: Whether the same request can succeed later.
        kind: Its class; those of HTTP are listed in `access.wire`.
        attempts: How often it was tried.
    """

    def __init__(
        self, provider: str, what: str, problem: str, *, retryable: bool = False,
        kind: str = "provider", attempts: int = 1,
    ) -> None:  # fmt: skip
        tries = f" ({kind}, {attempts} tries)" if attempts > 1 else ""
        super().__init__(_one_line(f"{provider}: {what}: {problem}{tries}"))
        self.provider, self.what, self.problem, self.retryable = provider, what, problem, retryable
        self.kind, self.attempts = kind, attempts

    def __reduce__(self) -> tuple[object, ...]:
        return _access_error, (
            self.provider, self.what, self.problem, self.retryable, self.kind, self.attempts,
        )  # fmt: skip


def _access_error(
    provider: str, what: str, problem: str, retryable: bool, kind: str, attempts: int
) -> AccessError:
    return AccessError(
        provider, what, problem, retryable=retryable, kind=kind, attempts=attempts
    )  # fmt: skip


class GridMismatchError(LasError):
    """Two arrays that must share pixels do not."""


class LeakError(LasError):
    """Two sites of different splits lie nearer to each other than the buffer."""


class TrainingError(LasError):
    """Training stopped because it went wrong; the last good checkpoint is kept."""


class StageError(LasError):
    """A stage did all it could and some of its work failed."""


def _one_line(text: str) -> str:
    return " ".join(text.split())
