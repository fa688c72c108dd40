"""The quality report of semantic IDs, as JSON and Markdown: figures and example cohorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recbole_genci.tokenizer.artifact.semantic_ids import SemanticIDs
from recbole_genci.tokenizer.encoding.limit import text_limit
from recbole_genci.tokenizer.encoding.text import shorten
from recbole_genci.tokenizer.quantization.quality import is_balanced
from recbole_genci.utils.writing import write_json, write_text

_COHORTS = 4  # shown per level
_TEXTS = 6  # shown per cohort


def _evenly(values: Sequence[Any] | np.ndarray, number: int) -> list[Any]:
    """At most ``number`` of the values, evenly spaced, with the first one."""
    return [
        values[i]
        for i in np.unique(np.linspace(0, len(values) - 1, min(number, len(values))).astype(int))
    ]


def example_cohorts(ids: SemanticIDs, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Some cohorts of each level with some of their items.

    Cohorts are chosen by size, from the largest to the median one.
    """
    cohorts = []
    for level in range(ids.num_levels - 1):
        count = np.bincount(ids.codes[:, level], minlength=ids.level_sizes[level])
        by_size = np.argsort(-count, kind="stable")[: max(1, np.count_nonzero(count) // 2)]
        for code in _evenly(by_size, _COHORTS):
            items = np.flatnonzero(ids.codes[:, level] == code)
            shown = [
                {"item": ids.item_tokens[row], "text": texts[row]} for row in _evenly(items, _TEXTS)
            ]
            cohorts.append(
                {"level": level + 1, "code": int(code), "items": len(items), "examples": shown}
            )
    return cohorts


def quality_report(ids: SemanticIDs, texts: Sequence[str]) -> dict[str, Any]:
    """The content of the report, ready for JSON.

    Args:
        ids: semantic IDs with the manifest of their build.
        texts: one text per item.
    """
    return {
        "digest": ids.digest,
        "items": len(ids),
        "settings": ids.manifest["settings"],
        "encoder_revision": ids.manifest["encoder_revision"],
        "versions": ids.manifest["versions"],
        "items_with_a_text_of_another": 1.0 - len(set(texts)) / len(texts),
        "quality": ids.manifest["quality"],
        "text_limit": ids.manifest.get("text_limit"),
        "cohorts": example_cohorts(ids, texts),
    }


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _balanced(level: Mapping[str, float]) -> str:
    return (
        "-" if level["codes"] == 1 else "yes" if is_balanced(level) else "no"
    )  # one code has nothing to balance


def _escape(text: str) -> str:
    return "".join(
        f"\\{character}" if character in r"\`*_[]<>|" else character for character in text
    )


def report_markdown(report: dict[str, Any], plots: Sequence[str] = ()) -> str:
    """The report as Markdown.

    Args:
        report: of `quality_report`.
        plots: names of PNG files beside it.
    """
    quality, settings, limit = report["quality"], report["settings"], text_limit(report)
    encoder, quantizer = _escape(settings["text_encoder"]), settings["quantizer"]
    lines = [
        f"# Semantic IDs of {report['items']} items",
        "",
        f"Encoder {encoder} ({_escape(report['encoder_revision'])}), quantiser {quantizer}, "
        f"{settings['num_codebooks']} x "
        f"{settings['codebook_size']} codes, digest `{report['digest'][:12]}`.",
        "",
        *([f"**{limit.sentence}**", ""] if limit and limit.cut else []),
        "| figure | value |",
        "| --- | --- |",
        f"| collision rate before the digit | {_share(quality['collision_rate'])} |",
        f"| of it unavoidable: equal embeddings | {_share(quality['equal_embeddings'])} |",
    ]
    if "moved_share" in quality:
        lines += [
            f"| collision rate of the nearest codes | {_share(quality['collision_rate_nearest'])} "
            "|",
            f"| items moved to a free last-level code | {_share(quality['moved_share'])} |",
        ]
    lines += [
        f"| items with the text of another | {_share(report['items_with_a_text_of_another'])} |",
        f"| items alone in their bucket | {_share(quality['items_alone'])} |",
        f"| largest bucket | {quality['largest_bucket']} items |",
        "| reconstruction error, share of the embeddings' variance | "
        f"{_figure(quality['reconstruction_error'])} |",
        "| neighbour recall@10, decoded codes against embeddings | "
        f"{_figure(quality['neighbor_recall'])} |",
        "",
        "| level | codes used | perplexity | largest code's share | gini | balanced |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for number, level in enumerate(quality["levels"], start=1):
        lines.append(
            f"| {number} | {level['used']} of {level['codes']} | {level['perplexity']:.1f} | "
            f"{_share(level['largest_share'])} | {level['gini']:.2f} | {_balanced(level)} |"
        )
    for name in plots:
        lines += ["", f"![{Path(name).stem.replace('_', ' ')}]({name})"]
    lines += [
        "",
        "## Example cohorts",
        "",
        "The largest of each level, down to those of median size.",
        "",
    ]
    for cohort in report["cohorts"]:
        examples = "; ".join(_escape(shorten(example["text"])) for example in cohort["examples"])
        lines.append(
            f"- level {cohort['level']}, code {cohort['code']} ({cohort['items']} items): "
            f"{examples}"
        )
    return "\n".join(lines) + "\n"


def write_report(
    ids: SemanticIDs, texts: Sequence[str], folder: Path, plots: Sequence[str] = ()
) -> str:
    """Write ``report.json`` and ``report.md`` into ``folder``; returns the Markdown."""
    report = quality_report(ids, texts)
    markdown = report_markdown(report, plots)
    write_json(folder / "report.json", report)
    write_text(folder / "report.md", markdown)
    return markdown
