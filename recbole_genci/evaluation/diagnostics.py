"""Does the generator work? What it generates, held against clicks and against plain guesses (never
used for selection).

A model takes part by ``observe_generator`` of its contract (``recbole_genci.model.base``); one
whose method returns None, the default, has no diagnostics. Codes are skewed, so that naming the
most popular ones
alone hits often: every share of hits stands beside that of *as many* guesses by popularity among
    the training clicks.

Symbols: R rows, P clicked rows, N levels (the last one tells collisions apart and carries no
    cohort), k beams.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from recbole.data.dataloader import AbstractDataLoader
from recbole.model.abstract_recommender import AbstractRecommender
from torch import Tensor

from recbole_genci.data.dataset import CTRDataset
from recbole_genci.utils.files import write_json

WHERE_EXPLAINED = 'README.md, "Does the generator work?"'


class Popularity(NamedTuple):
    """Ranks among the training clicks, 1 for the most popular; ties go to the smaller number."""

    codes: list[Tensor]  # of each level's codes [K_n], levels 1..N-1
    items: Tensor  # [num_items], padding last


def popularity(part: CTRDataset) -> Popularity:
    """Count codes and items over the clicked rows of a training part that has ``semantic_ids``."""
    clicked = part.inter_feat[part.label_field] == 1
    items = part.inter_feat[part.iid_field][clicked]
    codes = part.semantic_ids
    assert codes is not None
    sizes = (codes.max(dim=0).values + 1).tolist()
    by_level = [
        torch.bincount(codes[items, level], minlength=size) for level, size in enumerate(sizes[:-1])
    ]
    counts = torch.bincount(items, minlength=len(codes))
    counts[0] = -1
    return Popularity([_ranks(count) for count in by_level], _ranks(counts))


def _ranks(counts: Tensor) -> Tensor:
    order = counts.argsort(descending=True, stable=True)
    return torch.empty_like(order).index_copy_(0, order, torch.arange(1, len(order) + 1))


def hits(guesses: Tensor, target: Tensor, ranks: Tensor, padding: int) -> dict[str, float | None]:
    """How often generated guesses, and as many guesses by popularity, name the target.

    Args:
        guesses: ``[P, k]``; ``padding`` where there is none, and repeated guesses count once.
        target: ``[P]``.
        ranks: popularity rank of every possible target ``[K]``, from 1.

    Returns:
        dict: ``generated`` and ``popular``, shares of the P rows, and ``guesses``, the mean number
            of distinct ones; None
        where P = 0.
    """
    ordered = guesses.sort(dim=1).values
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    distinct = (first & (ordered != padding)).sum(1)
    generated = (guesses == target.unsqueeze(1)).any(1)
    return {
        "generated": _mean(generated),
        "popular": _mean(ranks[target] <= distinct),
        "guesses": _mean(distinct),
    }


def teacher_agreement(student: Tensor, teacher: Tensor) -> dict[str, float | None]:
    """Pearson correlation (None where either is constant) and mean absolute difference of
    probabilities ``[R]``.
    """
    student, teacher = student.double(), teacher.double()
    varies = len(student) > 1 and min(student.std(), teacher.std()) > 0
    correlation = torch.corrcoef(torch.stack([student, teacher]))[0, 1].item() if varies else None
    return {
        "correlation": correlation,
        "mean_absolute_difference": _mean((student - teacher).abs()),
    }


def summarise(seen: dict[str, Tensor], popular: Popularity) -> dict:
    """Diagnostics of observed rows, as ``diagnostics.json`` holds them.

    Args:
        seen: the columns that ``ModelContract.observe_generator`` documents, on the CPU.
        popular: of the training part.

    Returns:
        dict: ``rows``, ``positives``; ``ntp_loss`` of each level in nats (Eq. 2); ``valid_beams``,
            the share of beams that
        hold an item; ``first_beam`` and ``all_beams``, each with the hits of the ``codes`` at
        levels 1..N-1 (is the clicked item in the generated cohort?) and of the ``items``; and
        ``teacher``, the agreement of Eq. 11, None without one.
    """
    clicked = seen["label"] == 1
    codes, item = seen["codes"][clicked], seen["item"][clicked]
    beam_codes, beam_items = seen["beam_codes"][clicked], seen["beam_items"][clicked]

    def hits_of(beams: int) -> dict:
        of_codes = [
            hits(beam_codes[:, :beams, level], codes[:, level], ranks, -1)
            for level, ranks in enumerate(popular.codes)
        ]
        return {"codes": of_codes, "items": hits(beam_items[:, :beams], item, popular.items, 0)}

    teacher = seen.get("teacher_probability")
    return {
        "rows": len(clicked),
        "positives": int(clicked.sum()),
        "ntp_loss": [_mean(level) for level in seen["ntp_loss"].T],
        "valid_beams": _mean(seen["beam_items"] > 0),
        "beams": seen["beam_items"].shape[1],
        "first_beam": hits_of(1),
        "all_beams": hits_of(seen["beam_items"].shape[1]),
        "teacher": None if teacher is None else teacher_agreement(seen["probability"], teacher),
    }


def _mean(values: Tensor) -> float | None:
    return values.double().mean().item() if values.numel() else None


@torch.no_grad()
def diagnose(
    model: AbstractRecommender,
    loader: AbstractDataLoader,
    training_part: CTRDataset,
    device: torch.device,
    max_rows: int | None = None,
) -> dict | None:
    """One pass over a loader's rows; draws no random number, so that it changes no training.

    Args:
        model: any model; put into evaluation mode.
        loader: of the rows to look at.
        training_part: the model's view of the training rows, for popularity.
        max_rows: look at so many rows, spread evenly over the split; None looks at all.

    Returns:
        what ``summarise`` returns; None for a model without a generator.
    """
    model.eval()
    part = loader.dataset
    rows = torch.arange(len(part))
    if max_rows is not None and max_rows < len(part):
        rows = torch.arange(max_rows) * len(part) // max_rows
    batches = []
    for chosen in rows.split(loader.config["eval_batch_size"]):
        seen = model.observe_generator(part[chosen].to(device))
        if seen is None:
            return None
        batches.append({name: column.cpu() for name, column in seen.items()})
    seen = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    return summarise(seen, popularity(training_part))


def save_diagnostics(
    model: AbstractRecommender,
    loaders: dict,
    training_part: CTRDataset,
    device: torch.device,
    file: Path,
) -> None:
    """Write ``file`` over all rows of the loaders, by their names; nothing for a model without a
    generator.
    """
    found = {
        name: diagnose(model, loader, training_part, device) for name, loader in loaders.items()
    }
    if None not in found.values():
        write_json(file, found)


def in_words(found: dict) -> str:
    """The diagnostics that matter most, for a person who has not read the paper; in percent of the
    clicked rows.
    """
    if not found["positives"]:
        return f"generator: no clicks among {found['rows']:,} validation rows."
    beams, every = found["beams"], found["all_beams"]

    def share(hit: Mapping[str, Any], kind: str) -> str:
        return f"{100 * hit[kind]:.1f}%"

    item, code = every["items"], every["codes"][0]
    return (
        f"generator: its {beams} guesses name the clicked item in {share(item, 'generated')} of "
        f"{found['positives']:,} "
        f"clicks (the most popular items: {share(item, 'popular')}), the item's kind, its first "
        "code, in "
        f"{share(code, 'generated')} (the most popular: {share(code, 'popular')})"
    )


def as_line(found: dict) -> str:
    """Diagnostics in one line of a log, in percent; ``a/b/c`` are levels, brackets hold as many
    guesses by popularity.
    """

    def levels(values: Iterable[float | None], form: str = "{:.2f}") -> str:
        return "/".join("-" if value is None else form.format(value) for value in values)

    def shares(hits_of: Sequence[Mapping[str, Any]], kind: str) -> str:
        return levels([None if hit[kind] is None else 100 * hit[kind] for hit in hits_of], "{:.1f}")

    def hit(name: str, hits_of: Sequence[Mapping[str, Any]]) -> str:
        return f"{name} {shares(hits_of, 'generated')} % (popular {shares(hits_of, 'popular')} %)"

    first, every = found["first_beam"], found["all_beams"]
    parts = [
        f"generator on {found['rows']} rows, {found['positives']} clicks: L_NTP "
        f"{levels(found['ntp_loss'])}",
        hit("cohort hits of 1 beam", first["codes"]),
        hit(f"of {found['beams']}", every["codes"]),
        hit("item hits", [every["items"]]),
        f"valid beams {shares([{'share': found['valid_beams']}], 'share')} %",
    ]
    if found["teacher"]:
        agreement = [found["teacher"]["correlation"], found["teacher"]["mean_absolute_difference"]]
        parts.append(
            "SR teacher r {}, |dp| {}".format(*(levels([value], "{:.3f}") for value in agreement))
        )
    return ", ".join(parts)
