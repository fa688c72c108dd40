"""The key ``fields`` of FFM and FwFM, which groups features into fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recbole_genci.utils.value_checks import is_whole, shortened


def field_of_feature(fields: Mapping | None, names: Sequence[str]) -> dict[str, int]:
    """The number of each feature's field.

    Args:
        fields: ``{number of a field: names of its features}``; None makes a field of each feature.
        names: the features, in the order of their embeddings.

    Raises:
        ValueError: ``fields`` does not number its fields 0, 1, ... or does not name every feature
            once.
    """
    if fields is None:
        return {name: number for number, name in enumerate(names)}
    groups = list(fields.values())
    are_lists = all(isinstance(group, (list, tuple)) for group in groups)
    grouped = [name for group in groups for name in group] if are_lists else []
    is_numbered = all(is_whole(field, minimum=0) for field in fields) and (
        sorted(fields) == list(range(len(fields)))
    )
    if not is_numbered or sorted(map(str, grouped)) != sorted(names):
        raise ValueError(
            f"fields: {shortened(dict(fields))} must number its fields 0 to {len(fields) - 1} and "
            f"name each feature once; the features are {', '.join(names)}."
        )
    return {name: field for field, group in fields.items() for name in group}
