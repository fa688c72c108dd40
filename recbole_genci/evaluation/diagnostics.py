"""Diagnostics of a generator: how often it names the clicked item, compared with popularity.

They never select anything. A model takes part with ``observe_generator`` of its contract
(``recbole_genci.model.base``); if the method returns None, the default, there are no diagnostics.
Codes are skewed, so that guessing the most popular ones hits often. Each share of hits is therefore
given beside the share for the same number of guesses by popularity among the training clicks.

Symbols: R rows, P clicked rows, N levels (the last one separates collisions and has no cohorts), k
beams.
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
from recbole_genci.utils.words import counted
from recbole_genci.utils.writing import write_json

WHERE_EXPLAINED = 'docs/experiments.md, "Does the generator work?"'


class Popularity(NamedTuple):
    """Popularity ranks among the training clicks, from 1; the smaller id wins a tie."""

    codes: list[Tensor]  # of each level's codes [K_n], levels 1..N-1
    items: Tensor  # [num_items], padding last


def _clicked(part: CTRDataset) -> Tensor:
    return part.inter_feat[part.iid_field][part.inter_feat[part.label_field] == 1]


def popularity(part: CTRDataset) -> Popularity:
    """Count codes and items over the clicked rows of a training part that has ``semantic_ids``."""
    codes, items = part.semantic_ids, _clicked(part)
    assert codes is not None
    sizes = (codes.max(dim=0).values + 1).tolist()
    by_level = [
        torch.bincount(codes[items, level], minlength=size) for level, size in enumerate(sizes[:-1])
    ]
    return Popularity([_ranks(count) for count in by_level], item_popularity(part))


def item_popularity(part: CTRDataset) -> Tensor:
    """The ranks of `Popularity.items`, for which a part needs no semantic IDs."""
    counts = torch.bincount(_clicked(part), minlength=part.item_num)
    counts[0] = -1
    return _ranks(counts)


def _ranks(counts: Tensor) -> Tensor:
    order = counts.argsort(descending=True, stable=True)
    return torch.empty_like(order).index_copy_(0, order, torch.arange(1, len(order) + 1))


def hits(guesses: Tensor, target: Tensor, ranks: Tensor, padding: int) -> dict[str, float | None]:
    """How often generated guesses, and the same number of guesses by popularity, hit the target.

    Args:
        guesses: ``[P, k]``, filled up with ``padding``; a repeated guess counts once.
        target: ``[P]``.
        ranks: popularity rank of every possible target ``[K]``, from 1.
        padding: the value that is no guess.

    Returns:
        dict: ``generated`` and ``popular``, shares of the P rows, and ``guesses``, the mean number
            of distinct guesses; None if P = 0.
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
    """Pearson correlation (None if either is constant) and mean absolute difference of
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
    """Diagnostics of observed rows, the content of ``diagnostics.json``.

    Args:
        seen: the columns that ``ModelContract.observe_generator`` documents, on the CPU.
        popular: popularity in the training part.

    Returns:
        dict: ``rows``, ``positives``; ``ntp_loss`` of each level in nats (Eq. 2); ``valid_beams``,
            the share of beams that hold an item; ``first_beam`` and ``all_beams``, each with the
            hits of the ``codes`` at levels 1..N-1 (is the clicked item in the generated cohort?)
            and of the ``items``; ``teacher``, the agreement of Eq. 11, None without a teacher.
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
    """Compute the diagnostics on a loader's rows, without drawing random numbers.

    Training is therefore the same with and without them.

    Args:
        model: any model; it is put into evaluation mode.
        loader: a loader over the rows.
        training_part: the model's view of the training rows, for popularity.
        device: the model's device.
        max_rows: number of rows, spread evenly over the split; None takes all.

    Returns:
        the result of ``summarise``; None for a model without a generator.
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
    """Write the diagnostics on all rows of each loader to ``file``, by the loaders' names.

    Writes nothing for a model without a generator.
    """
    by_name = {
        name: diagnose(model, loader, training_part, device) for name, loader in loaders.items()
    }
    if None not in by_name.values():
        write_json(file, by_name)


def in_words(measured: dict, in_full: bool = True) -> str:
    """The most important diagnostics in words, in percent of the clicked rows.

    In full they are for a person who has not read the paper; else for one who has read that line.
    """
    if not measured["positives"]:
        return f"generator: no clicks among {counted(measured['rows'], 'validation row')}."
    beams, every = measured["beams"], measured["all_beams"]

    def share(hit: Mapping[str, Any], kind: str) -> str:
        return f"{100 * hit[kind]:.1f}%"

    item, code = every["items"], every["codes"][0]
    if not in_full:
        return (
            f"generator: clicked item {share(item, 'generated')} (popular "
            f"{share(item, 'popular')}), its kind {share(code, 'generated')} (popular "
            f"{share(code, 'popular')})"
        )
    return (
        f"generator: its {beams} guesses name the clicked item in {share(item, 'generated')} of "
        f"{counted(measured['positives'], 'click')} (the most popular items: "
        f"{share(item, 'popular')}), "
        f"and the item's kind (its first code) in {share(code, 'generated')} (the most popular "
        f"kinds: {share(code, 'popular')})"
    )


def as_line(measured: dict) -> str:
    """All diagnostics in one line of a log, in percent.

    ``a/b/c`` are levels; a bracket holds the share for the same number of guesses by popularity.
    """

    def levels(values: Iterable[float | None], form: str = "{:.2f}") -> str:
        return "/".join("-" if value is None else form.format(value) for value in values)

    def shares(hits_of: Sequence[Mapping[str, Any]], kind: str) -> str:
        return levels([None if hit[kind] is None else 100 * hit[kind] for hit in hits_of], "{:.1f}")

    def hit(name: str, hits_of: Sequence[Mapping[str, Any]]) -> str:
        return f"{name} {shares(hits_of, 'generated')} % (popular {shares(hits_of, 'popular')} %)"

    first, every, teacher = measured["first_beam"], measured["all_beams"], measured["teacher"]
    parts = [
        f"generator on {measured['rows']} rows, {measured['positives']} clicks: L_NTP "
        f"{levels(measured['ntp_loss'])}",
        hit("cohort hits of 1 beam", first["codes"]),
        hit(f"of {measured['beams']}", every["codes"]),
        hit("item hits", [every["items"]]),
        f"valid beams {shares([{'share': measured['valid_beams']}], 'share')} %",
    ]
    if teacher:
        agreement = [teacher["correlation"], teacher["mean_absolute_difference"]]
        parts.append(
            "SR teacher r {}, |dp| {}".format(*(levels([value], "{:.3f}") for value in agreement))
        )
    return ", ".join(parts)
