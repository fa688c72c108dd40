"""The role of a key: what it decides, so that other rooms know what a change of it means.

The role stands behind the kind, in the key's line in ``properties/overall.yaml``, or in
``properties/recbole.yaml`` for a key of RecBole:

    min_count: ~        # (int >= 1 or ~; rows) Values that fewer training rows have become one.
    codebook_size: 256  # (int >= 2; tokenizer) Codes at each level.
    epochs: 300         # (int >= 1; training) The largest number of epochs.
    results_dir: results  # (str; place) Where comparison tables are written.
"""

from __future__ import annotations

from recbole_genci.utils.value_checks import nearest

#: Every role and what its keys decide. CONTRIBUTING.md says what follows from each.
ROLES = {
    "rows": "the rows, their features and histories",
    "tokenizer": "the semantic IDs",
    "training": "what a run does with its rows: what it trains, and what it measures",
    "place": "only where things lie and run, or what is shown",
}


def split_role(words: str) -> tuple[str, str]:
    """The kind and the role in a bracket such as ``int >= 1; training``; the role may be missing.

    Raises:
        ValueError: what stands behind the last semicolon is no role.
    """
    kind, semicolon, role = words.rpartition(";")
    if not semicolon:
        return words, ""
    role = role.strip()
    if role not in ROLES:
        raise ValueError(
            f"'({words})' ends with '{role}', which is no role of a key. Roles are "
            f"{', '.join(ROLES)}.{nearest(role, ROLES)}"
        )
    return kind, role


def check_no_role(words: str) -> None:
    """Refuse a role in a bracket of a model's file.

    Raises:
        ValueError: there is one; says what to write.
    """
    kind, _, role = words.rpartition(";")
    if kind and role.strip() in ROLES:
        raise ValueError(
            f"'({words})' gives the key the role '{role.strip()}', but a key of a model has none. "
            f"Write ({kind.strip()})."
        )
