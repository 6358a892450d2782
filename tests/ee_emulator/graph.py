"""Expressions as clients send them, worked out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ee_emulator.functions import KNOWN
from ee_emulator.images import Refused


def evaluate(expression: Mapping[str, Any], known: Mapping[str, Callable[..., Any]]) -> Any:
    """The value of {"result": ..., "values": {...}}.

    Args:
        expression: As `image:computePixels` and `value:compute` get it.
        known: Functions besides those of `functions`, e.g. those that load what is stored.

    Raises:
        Refused: A function, or a kind of node, that the emulator does not know.
    """
    nodes = expression["values"]
    functions = {**KNOWN, **known}
    kept: dict[str, Any] = {}

    def of(name: str, bound: Mapping[str, Any]) -> Any:
        if bound:  # inside a function values depend on its arguments
            return node(nodes[name], bound)
        if name not in kept:
            kept[name] = node(nodes[name], bound)
        return kept[name]

    def node(said: Mapping[str, Any], bound: Mapping[str, Any]) -> Any:
        ((kind, what),) = said.items()
        if kind == "constantValue":
            return what
        if kind == "integerValue":
            return int(what)
        if kind == "valueReference":
            return of(what, bound)
        if kind == "argumentReference":
            if what not in bound:
                raise Refused(f"Unbound argument {what}.")
            return bound[what]
        if kind == "arrayValue":
            return [node(one, bound) for one in what.get("values", [])]
        if kind == "dictionaryValue":
            return {key: node(one, bound) for key, one in what.get("values", {}).items()}
        if kind == "functionDefinitionValue":
            names = what.get("argumentNames", [])
            return lambda *given: of(
                what["body"], {**bound, **dict(zip(names, given, strict=True))}
            )
        if kind == "functionInvocationValue":
            name = what.get("functionName", "")
            if name not in functions:
                raise Refused(f"emulator: {name or 'a function by reference'} is not emulated")
            given = {key: node(one, bound) for key, one in what.get("arguments", {}).items()}
            try:
                return functions[name](**given)
            except TypeError as problem:
                raise Refused(f"{name}: {problem}") from problem
        raise Refused(f"emulator: nodes of the kind {kind} are not known")

    return of(expression["result"], {})
