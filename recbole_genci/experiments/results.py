"""Write the results of an experiment: ``table.md`` with notes, the tables as CSV and LaTeX,
pictures, and ``report.html``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType

from recbole_genci.comparison.notes import not_ended
from recbole_genci.data.dataset import CTRDataset
from recbole_genci.data.fingerprint import data_fingerprint
from recbole_genci.experiments import paper
from recbole_genci.experiments.definition import Definition
from recbole_genci.experiments.html_report import html_report
from recbole_genci.experiments.outcome import Outcome, Report
from recbole_genci.experiments.request import Request
from recbole_genci.utils.provenance import provenance
from recbole_genci.utils.words import counted
from recbole_genci.utils.writing import write_text

TABLE, PAGE = "table.md", "report.html"


def check_report(request: Request, parts: Sequence[CTRDataset]) -> None:
    """Check before training that the models and the dataset's parts allow the experiment's report.

    Raises:
        ValueError: from the report's own ``check``, if it has one.
    """
    getattr(_report_module(request.definition), "check", lambda request, parts: None)(
        request, parts
    )


def write_results(outcome: Outcome) -> str:
    """Write tables and pictures into the experiment's folder; return the text of ``table.md``."""
    folder = outcome.request.folder
    folder.mkdir(parents=True, exist_ok=True)
    module = _report_module(outcome.request.definition)
    made = module.report(outcome, folder)
    text = _text(outcome, made)
    outcome.tables.update(made.tables)
    written = {*made.pictures}
    written |= {f"{name}{ending}" for name in made.tables for ending in (".csv", ".tex")}
    # Those of an earlier request with more of them; other files are a person's own.
    optional = getattr(module, "OPTIONAL", ())
    for file in {f"{name}{ending}" for name in optional for ending in (".csv", ".tex", ".png")}:
        if file not in written:
            (folder / file).unlink(missing_ok=True)
    for name, table in made.tables.items():
        write_text(folder / f"{name}.csv", table.csv())
        write_text(folder / f"{name}.tex", table.latex())
    write_text(folder / TABLE, text)
    about = _about(outcome, made).replace("**", "")  # Markdown's
    page = html_report(outcome, made, about, remarks(outcome, made), _origin(outcome))
    write_text(folder / PAGE, page)
    return text


def _report_module(definition: Definition) -> ModuleType:
    return importlib.import_module(f"recbole_genci.experiments.reports.{definition.report}")


def _text(outcome: Outcome, made: Report) -> str:
    request = outcome.request
    definition = request.definition
    parts = [
        f"# {definition.name} on {request.config['dataset']} ({definition.paper})",
        _about(outcome, made),
    ]
    parts += [made.tables["table"].markdown()]
    parts += [
        f"## {name}\n\n{table.markdown()}" for name, table in made.tables.items() if name != "table"
    ]
    about = made.about or definition.about
    parts += [f"![{made.captions.get(name, about)}]({name})" for name in made.pictures]
    parts.append("\n".join(f"- {remark}" for remark in remarks(outcome, made)))
    data, *others = _origin(outcome)
    origin = [data, f"Command: `{request.command}`", *others]
    parts.append("\n".join(f"{line}  " for line in origin))  # two spaces end a line of Markdown
    return "\n\n".join(parts) + "\n"


def remarks(outcome: Outcome, made: Report) -> list[str]:
    """The remarks below the table; none is about a line that the table does not have, or about
    figures that the paper does not print for the dataset.
    """
    lines = {variant.name for variant in outcome.request.variants}
    dataset = outcome.request.config["dataset"]
    notes = [
        note.text
        for note in outcome.request.definition.notes
        if (note.line is None or note.line in lines)
        and (note.paper is None or paper.has(note.paper, dataset))
    ]
    configs = outcome.request.configs
    ends = [
        (variant.name, run["best_epoch"], run.get("epochs"), configs[variant.name]["eval_step"])
        for variant in outcome.request.variants
        for run in outcome.of_variant(variant)
    ]
    return notes + made.remarks + not_ended(ends)


def _about(outcome: Outcome, made: Report) -> str:
    request = outcome.request
    text = [made.about or request.definition.about]
    if request.variants:
        number = len(request.seeds)
        seeds = f"seed{'s' if number > 1 else ''} {', '.join(map(str, request.seeds))}"
        mean = (
            "mean ± sd (n - 1) over the seeds, given only where all of them have finished; "
            if number > 1
            else ""
        )
        metric = request.config["valid_metric"]
        text.append(
            f"{made.split}, {seeds}; {mean}the best epoch of a run is chosen by validation "
            f"{metric}."
        )
    if failed := outcome.failed():
        text.append(
            f"**{len(failed)} of {len(outcome.runs)} runs failed**; the same command tries them "
            "again."
        )
    return " ".join(text)


def _origin(outcome: Outcome) -> list[str]:
    """Data and versions, listing every version if the runs had different ones."""
    request = outcome.request
    test = outcome.parts[2]
    lines = [
        f"Dataset {request.config['dataset']}, fingerprint {data_fingerprint(outcome.parts)[:12]}, "
        f"{len(test):,} test rows.",
    ]
    runs = list(outcome.runs.values()) or [provenance()]
    revisions = sorted({str(run["git_revision"]) for run in runs})
    versions = sorted(
        {
            ", ".join(f"{name} {version}" for name, version in run["versions"].items())
            for run in runs
        }
    )
    machines = sorted(
        {
            f"{of['processor']}, {counted(of['cpu_count'], 'CPU core')}, "
            f"{counted(of['threads'], 'thread')}, GPU {of['gpu']}"
            for of in (run["machine"] for run in runs)
        }
    )
    lines.append(
        f"Revision {' and '.join(revisions)}; {'; or '.join(machines)}; {'; or '.join(versions)}."
    )
    sources = sorted({run["taken_from"] for run in outcome.runs.values() if run["taken_from"]})
    if sources:
        lines.append(
            f"Some runs are those of {', '.join(sources)}: the same configuration, seed, rows and "
            "semantic IDs."
        )
    return lines
