"""Records as plain JSON values, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from guildgpt.report import figures


def plain(value: Any) -> Any:
    """Nested data as JSON has it: lists, dicts, and None for a float that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return figures.finite(value) if isinstance(value, float) else value


def typed(kind: Any, value: Any) -> Any:
    """Plain JSON as the type `kind`: dataclasses, tuples of them, optional ones; else as it is."""
    if is_dataclass(kind):
        types = get_type_hints(kind)
        unknown = sorted(set(value) - set(types))
        if unknown:
            raise ValueError(f"{kind.__name__} has no {' and no '.join(unknown)}")  # type: ignore[union-attr]
        return kind(**{key: typed(types[key], item) for key, item in value.items()})  # type: ignore[operator]
    if get_origin(kind) in (Union, UnionType):
        inner = next(option for option in get_args(kind) if option is not NoneType)
        return None if value is None else typed(inner, value)
    if get_origin(kind) is tuple:
        return tuple(typed(get_args(kind)[0], item) for item in value)
    return value
