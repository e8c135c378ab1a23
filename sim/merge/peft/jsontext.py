"""JSON from strangers, parsed within bounds: a hostile or damaged text is a ValueError, never a crash."""

import json
from typing import Any

DEEPEST = 32
"""Levels of lists and tables: configurations have three."""

DIGITS = 30
"""Digits of a whole number: 64 bits have 20."""


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises: ValueError, with the reason in a few words, for a text that is not JSON, is nested more than
    ``DEEPEST`` deep, or holds a whole number of more than ``DIGITS`` digits or half a character.
    """
    try:
        value = json.loads(text, parse_int=_integer)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested without end") from None
    except UnicodeEncodeError:
        raise ValueError("half a character: a lone surrogate") from None
    _bound(value, DEEPEST)
    return value


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _bound(value: Any, levels: int) -> None:
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError(f"nested more than {DEEPEST} deep")
        for item in value.values() if isinstance(value, dict) else value:
            _bound(item, levels - 1)
