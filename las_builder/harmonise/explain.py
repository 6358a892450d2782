"""What becomes of a code in a taxonomy, and why, for people to read in a terminal."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable, Sequence
from typing import Literal

from las_builder.catalogs import LabelClass, LabelProduct, Ontology, Taxonomy
from las_builder.core.types import IGNORE
from las_builder.errors import InputError
from las_builder.harmonise.crosswalk import Part, Reading, native, native_codes, parts, read_code

WIDTH = 80
"""Columns."""

WORDS = {
    "exact": "the class is this node",
    "broader": "the class lies inside this node",
    "narrower": "the class holds this node, and more",
    "partial": "the class and this node share ground",
}


def explain(
    product: LabelProduct,
    code: str | None,
    taxonomy: Taxonomy | Literal["native"],
    ontology: Ontology,
) -> str:
    """What becomes of a code, step by step, or of all of them as a table.

    Args:
        product: Whose code it is.
        code: A number of the legend or a class name; None: all.
        taxonomy: The classes; "native": the product's own legend.
        ontology: What both speak of.

    Returns:
        Lines of at most 80 columns.

    Raises:
        InputError: The legend has no such code; the nearest are named.
        LegendError: `native`, and no code means anything.
    """
    if code is None:
        return "\n".join(_table(product, taxonomy, ontology))
    entry = find_code(product, code)
    return "\n".join(_steps(entry, product, taxonomy, ontology))


def find_code(product: LabelProduct, code: str) -> LabelClass:
    """The class of a legend by its number or name.

    Raises:
        InputError: There is none; the nearest are named.
    """
    names = {entry.name: entry for entry in product.classes}
    codes = {str(entry.value): entry for entry in product.classes}
    if found := codes.get(code) or names.get(code):
        return found
    known = sorted(entry.value for entry in product.classes)
    near = difflib.get_close_matches(code, names, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}?" if near else ""
    if code.lstrip("-").isdigit():
        nearest = sorted(known, key=lambda value: (abs(value - int(code)), value))[:4]
        hint = f"Nearest are {', '.join(f'{v} ({codes[str(v)].name})' for v in sorted(nearest))}."
    raise InputError(
        product.name, "code", code, f"the codes {_ranges(known)}, or a class name", hint
    )


# ---- one code


def _steps(
    entry: LabelClass,
    product: LabelProduct,
    taxonomy: Taxonomy | Literal["native"],
    ontology: Ontology,
) -> list[str]:
    lines = _wrap(f"{product.title}, code {entry.value}: {entry.title}")
    if taxonomy == "native":
        return [*lines, "", *_native(entry, product), *_about(entry, product, ontology)]
    lines += _wrap(f"in {taxonomy.name}: {taxonomy.title}")
    reading = read_code(entry, product, taxonomy, ontology)
    lines += ["", *_wrap(verdict(reading, entry, taxonomy)), ""]
    if reading.how == "no label":
        node = entry.node or "special"
        concept = ontology.by_id[node].title if node in ontology.by_id else node
        lines += _wrap(f"The legend says of it: {concept.lower()} ({node}).")
        return [*lines, *_about(entry, product, ontology)]
    lines += _meaning(entry, product, taxonomy, ontology)
    if reading.how != "by name":  # there it does not matter what can be seen
        lines += _seen(reading, taxonomy, ontology)
    while lines[-1] == "":
        lines.pop()
    return [*lines, *_about(entry, product, ontology)]


def verdict(reading: Reading, entry: LabelClass, taxonomy: Taxonomy) -> str:
    """What a code becomes, in a sentence."""
    between = [taxonomy.classes[i].name for i in reading.between]
    if reading.how == "no label":
        return "No label: the code states neither a cover nor a use."
    if reading.how == "inside":
        return f"It becomes {taxonomy.classes[reading.index].name}: all it can be lies in there."
    if reading.how == "by name":
        own = taxonomy.classes[reading.index].name
        return f"It becomes {own}: that class names the concept itself, whatever can be seen there."
    if reading.how == "prior":
        own, share = taxonomy.classes[reading.index].name, round(100 * reading.share)
        return (
            f"It becomes {own}: it lies across {_and(between)}, and {own} has the greatest of the "
            f"code's weights ({share} % of them, which bounds the confidence)."
        )
    if reading.how == "outside":
        return "No label: nothing it can be is in any class."
    prior = ""
    if taxonomy.on_ambiguous == "prior":
        prior = " Its weights do not decide." if entry.weights else " It has no weights to decide."
    if len(between) == 1:
        return f"No label: it can be {between[0]}, and what is in no class.{prior}"
    rest = ", or what is in no class" if reading.beyond else ""
    return f"No label: it can be {_or(between)}{rest}.{prior}"


def _native(entry: LabelClass, product: LabelProduct) -> list[str]:
    classes = native(product).classes
    own = [e.value for e in native_codes(product)]
    if entry.value in own:
        index = own.index(entry.value)
        return _wrap(f"It becomes class {index} of {len(classes)}, {classes[index].name}: the "
                     "legend is the taxonomy.")  # fmt: skip
    return ["No label: the code states neither a cover nor a use."]


def _meaning(
    entry: LabelClass, product: LabelProduct, taxonomy: Taxonomy, ontology: Ontology
) -> list[str]:
    """The nodes of a code and what each counts as."""
    lines = ["What the code means"]
    for part in parts(entry, product, taxonomy.basis, ontology):
        marks = []
        if part.node == entry.node and entry.relation is not None:
            marks.append(WORDS[entry.relation])
        if part.node in entry.ours:
            marks.append("ours, the sources do not name it")
        lines += _item(part.node, _titled(part, marks, ontology))
    outer = entry.node is not None and entry.node not in entry.means
    if outer and entry.node in ontology.by_id and entry.relation is not None:
        lines += _wrap(f"Of {entry.node}, {WORDS[entry.relation]}.", indent=2)
    kind = "land cover" if taxonomy.basis == "cover" else "land use"
    lines += ["", f"What each counts as, in a taxonomy of {kind}"]
    for part in parts(entry, product, taxonomy.basis, ontology):
        lines += _item(part.node, _counts(part, entry, product))
    return [*lines, ""]


def _titled(part: Part, marks: Sequence[str], ontology: Ontology) -> str:
    leaves = len(ontology.below(part.node))
    size = f", {leaves} leaves" if leaves > 1 else ""
    return f"{ontology.by_id[part.node].title}{size}{''.join(f'; {mark}' for mark in marks)}"


def _counts(part: Part, entry: LabelClass, product: LabelProduct) -> str:
    if part.how == "itself":
        return "itself"
    if part.how == "seen as":
        return f"what can be seen there: {_or(part.nodes)}"
    head = (entry.node if entry.node in entry.means else entry.means[0]) or ""
    return (
        f"nothing: {product.name} states cover, so that this part of the class looks like "
        f"{head.split('.', maxsplit=1)[0]}"
    )


def _seen(reading: Reading, taxonomy: Taxonomy, ontology: Ontology) -> list[str]:
    """Leaves by class."""
    total = len(reading.can_be)
    lines = [f"Where its {total} {'leaf lies' if total == 1 else 'leaves lie'}"]
    for index in reading.between:
        owned = frozenset().union(*(ontology.below(m) for m in taxonomy.classes[index].members))
        inside = reading.can_be & owned
        lines += _item(
            taxonomy.classes[index].name, f"{len(inside)}: {_short(inside, ontology)}"
        )  # fmt: skip
    if reading.beyond:
        lines += _item(
            "(no class)", f"{len(reading.beyond)}: {_short(reading.beyond, ontology)}"
        )  # fmt: skip
    return lines


def _about(entry: LabelClass, product: LabelProduct, ontology: Ontology) -> list[str]:
    """The legend's note and the semantic notes of a code."""
    lines = []
    if entry.note:
        lines += ["", "The legend adds", *_wrap(entry.note, indent=2)]
    for note in ontology.notes:
        if product.name in note.about and entry.value in (
            note.about[product.name] or [entry.value]
        ):
            lines += ["", note.title, *_wrap(note.text, indent=2)]
    return lines


# ---- all codes


def _table(
    product: LabelProduct, taxonomy: Taxonomy | Literal["native"], ontology: Ontology
) -> list[str]:
    """Code, name, what it becomes: one line a code."""
    legend = native(product) if taxonomy == "native" else taxonomy
    lines = _wrap(f"{product.title} in {legend.name}, land {legend.basis}")
    wide = max(len(str(entry.value)) for entry in product.classes)
    lines += ["", f"{'code':>{max(4, wide)}}  {'class of the product':<31} becomes"]
    own = [e.value for e in native_codes(product)]
    labels = 0
    for entry in product.classes:
        if taxonomy == "native":
            becomes = entry.name if entry.value in own else "-"
        else:
            becomes = _becomes(read_code(entry, product, taxonomy, ontology), taxonomy)
        labels += not becomes.startswith("-")
        name = textwrap.shorten(entry.title, 31, placeholder="...")
        head = f"{entry.value:>{max(4, wide)}}  {name:<31} "
        lines += textwrap.wrap(
            becomes, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)
        )
    lines += ["", f"{labels} of {len(product.classes)} codes are labels."]
    if taxonomy != "native":
        read = [read_code(e, product, taxonomy, ontology).index for e in product.classes]
        untold = [c.name for i, c in enumerate(legend.classes) if i not in read]
        if untold:
            lines += _wrap(f"It tells no {_or(untold)}.")
    return lines


def _becomes(reading: Reading, taxonomy: Taxonomy) -> str:
    if reading.index != IGNORE:
        name = taxonomy.classes[reading.index].name
        return f"{name} (by weight)" if reading.how == "prior" else name
    if reading.how == "no label":
        return "-"
    names = [taxonomy.classes[i].name for i in reading.between]
    return "- " + " | ".join([*names, *(["no class"] if reading.beyond else [])])


# ---- words


def _short(leaves: frozenset[str], ontology: Ontology) -> str:
    """Leaves by the highest nodes that hold exactly them."""
    whole = [n.id for n in ontology.nodes if ontology.below(n.id) <= leaves]
    top = [n for n in whole if n.rsplit(".", 1)[0] not in whole or "." not in n]
    return ", ".join(top)


def _item(name: str, text: str) -> list[str]:
    """A name and what is said of it, hanging."""
    if len(name) > 26:
        return [f"  {name}", *_wrap(text, indent=30)]
    head = f"  {name:<26}  "
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * 30)


def _wrap(text: str, *, indent: int = 0) -> list[str]:
    space = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=space, subsequent_indent=space)


def _ranges(values: Iterable[int]) -> str:
    """Numbers with their runs drawn together: "0 to 4, 10, 20"."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


def _and(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"


def _or(names: Sequence[str]) -> str:
    return " or ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} or {names[-1]}"
