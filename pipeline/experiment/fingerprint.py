"""What identifies an experiment: the values that differ from their defaults."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


def chosen_content(value: Any) -> Any:
    """A model, or what is in one, without the fields that have their default values.

    A field that a later version adds, with a default, so leaves it as it is. What tells the kinds of
    a model apart (``driver``, ``kind``, …) is kept. A default is not to be changed once released:
    it is not in here.
    """
    if isinstance(value, BaseModel):
        return dict(_chosen_fields(value))
    if isinstance(value, dict):
        return {key: chosen_content(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [chosen_content(item) for item in value]
    return value


def _chosen_fields(model: BaseModel) -> list[tuple[str, Any]]:
    fields = []
    for name, field in type(model).model_fields.items():
        content = chosen_content(getattr(model, name))
        # Some defaults follow from the fields before them.
        default = field.get_default(call_default_factory=True, validated_data=dict(model))
        if field.is_required() or _tells_kinds_apart(field) or content != chosen_content(default):
            fields.append((name, content))
    return fields


def _tells_kinds_apart(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
