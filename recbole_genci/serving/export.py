"""Export a run's scorer as a program that runs without Python and without this package."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recbole_genci.serving.export_check import MEANING, ROWS, as_described, some_rows
from recbole_genci.serving.features import FeatureReader
from recbole_genci.serving.requests import RequestReader
from recbole_genci.serving.rows import RowReader
from recbole_genci.serving.scorer import Scorer
from recbole_genci.serving.static_scorer import StaticScorer
from recbole_genci.serving.unseen import MEAN, twin
from recbole_genci.utils.answers import Refused, is_out_of_memory
from recbole_genci.utils.digests import SEAL
from recbole_genci.utils.disk import check_writable
from recbole_genci.utils.sha256 import sha256_of
from recbole_genci.utils.static import static_shapes
from recbole_genci.utils.writing import (
    naming,
    remove_leftovers,
    write_atomically,
    write_json,
    write_text,
)

TORCH, ONNX = ".pt2", ".onnx"
#: How far a program's probabilities may be from the model's, on the rows of the check.
TOLERANCE = 1e-5
# Batches on which a program is compared with the model before it is kept.
_BATCHES = (1, 2, 3, ROWS)
_ONNX_BYTES = 2**31 - 2**24  # a protobuf file holds 2 GiB


def check_export(file: Path) -> None:
    """Refuse a file that cannot be exported to, before long work.

    Raises:
        ValueError: its name says no format, or its folder takes no file.
        ImportError: the packages that write ONNX are not installed.
    """
    if file.name in (TORCH, ONNX):
        raise ValueError(
            f"output: '{file}' is a suffix alone; name a file, for example scorer{file.name}."
        )
    if file.suffix not in (TORCH, ONNX):
        raise ValueError(
            f"output: '{file}' ends with neither {TORCH} (torch.export, AOTInductor) nor {ONNX}, "
            "which are what can be exported."
        )
    if file.suffix == ONNX:
        try:
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401
        except ImportError as error:
            raise ImportError(
                f"output: {ONNX} needs {error.name}, which is not installed: pip install onnx "
                f"onnxscript onnxruntime; {TORCH} needs nothing more."
            ) from error
    for each in (file, *_beside(file)):
        if each.is_dir():
            raise ValueError(f"output: '{each}' is a folder; name a file.")
    check_writable(file.parent, "output")


def export_scorer(scorer: Scorer, features: FeatureReader, file: Path) -> dict[str, Any]:
    """Write the program that ``Ranker.export`` describes.

    Args:
        scorer: of a run.
        features: reads names and values as the run does.
        file: a .pt2 or .onnx file.

    Returns:
        dict: the content of ``<file>.json``.

    Raises:
        Refused: the model cannot be exported, or the program computes something else.
        ValueError, ImportError: as for `check_export`.
        WriteError: a file cannot be written. The earlier description is gone then, and what is
            beside it counts for nothing.
    """
    check_export(file)
    run = scorer.run
    name = run.config["model"]
    model: Any = twin(scorer.model_with_mean if scorer.unseen == MEAN else run.model, {}).eval()
    model.precompute()
    module = StaticScorer(model, scorer.view, features).to(run.config["device"]).eval()
    program = _exported(module, name)
    tokens = {
        field: [str(token) for token in scorer.view.field2id_token[field]]
        for field in sorted({each.vocabulary for each in module.inputs if each.vocabulary})
    }
    table = some_rows(scorer, features)
    expected = torch.from_numpy(RowReader(scorer, RequestReader(features)).score(table))
    step = scorer.view.segment_clicks
    given = as_described(table, _inputs(module), tokens, module.history_name, step)
    rows = _on(given, module)
    largest = _compared(name, _of_torch(program), rows, expected)
    if file.suffix == TORCH:
        written = _torch_bytes(program)
    else:
        written = _as_onnx(program, module, name)
        largest = _compared(name, _of_onnx(written, name), rows, expected)
    vocabularies, description = _beside(file)
    remove_leftovers(file.parent, [each.name for each in (file, vocabularies, description)])
    # A program without its description is incomplete for anyone to see; with one of an earlier
    # export, whose digests and inputs are others, it would look complete.
    with naming(description):
        description.unlink(missing_ok=True)
    write_atomically(file, lambda path: path.write_bytes(written))
    write_text(vocabularies, json.dumps(tokens, ensure_ascii=False))
    content = _description(scorer, module, file, vocabularies, largest)
    write_json(description, content)  # last: it has the digests of the others
    return content


def _beside(file: Path) -> tuple[Path, Path]:
    """The vocabularies and the description of a program."""
    return file.with_name(f"{file.name}.vocabularies.json"), file.with_name(f"{file.name}.json")


# ---------------------------------------------------------------- programs


def _exported(module: StaticScorer, name: str) -> torch.export.ExportedProgram:
    rows = torch.export.Dim("B")
    example = _on(module.example(3), module)
    try:
        with torch.no_grad(), static_shapes(), _quiet():
            return torch.export.export(
                module,
                (),
                example,
                dynamic_shapes={each.name: {0: rows} for each in module.inputs},
                strict=False,
            )
    except Exception as error:
        raise _refused(
            error,
            f"{name} cannot be exported: {_reason(error)}. A model that can is one whose "
            "operations and shapes depend on no value of its inputs.",
        ) from error


def _refused(error: Exception, words: str) -> Exception:
    """What is raised for any error of tracing or of running a program.

    A model's code is a person's own, and a tracer runs it with values that are none, so that it can
    raise anything; only where memory ran out, nothing is wrong with the model.
    """
    return error if is_out_of_memory(error) else Refused(words)


def _torch_bytes(program: torch.export.ExportedProgram) -> bytes:
    # Into memory: where a disk is full, torch's own writer ends the process.
    stream = io.BytesIO()
    torch.export.save(program, stream)
    return stream.getvalue()


def _as_onnx(program: torch.export.ExportedProgram, module: StaticScorer, name: str) -> bytes:
    size = sum(each.numel() * each.element_size() for each in program.state_dict.values())
    size += sum(
        each.numel() * each.element_size()
        for each in program.constants.values()
        if isinstance(each, Tensor)
    )
    if size > _ONNX_BYTES:
        raise Refused(
            f"{name} has {size / 1e9:.1f} GB of weights and features, and an ONNX file holds 2 "
            f"GB. Export it to {TORCH}."
        )
    names = [each.name for each in module.inputs]
    try:
        with torch.no_grad(), static_shapes(), _quiet():
            exported = torch.onnx.export(
                program,
                (),
                kwargs=_on(module.example(3), module),
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=["probability"],
            )
            assert exported is not None
            return exported.model_proto.SerializeToString()
    except Exception as error:  # as of `_exported`
        words = f"{name} cannot be exported to ONNX: {_reason(error)}. Export it to {TORCH}."
        raise _refused(error, words) from error


def _of_torch(program: torch.export.ExportedProgram) -> Callable[[dict[str, Tensor]], Tensor]:
    module = program.module()
    return lambda inputs: module(**inputs).cpu()


def _of_onnx(content: bytes, name: str) -> Callable[[dict[str, Tensor]], Tensor]:
    import onnxruntime as runtime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    # Its errors have no class of their own in common.
    failures = (errors.Fail, errors.NotImplemented, errors.InvalidGraph, errors.InvalidArgument)
    options = runtime.SessionOptions()
    options.log_severity_level = 3

    def program(inputs: dict[str, Tensor]) -> Tensor:
        try:
            found = session.run(None, {name: each.cpu().numpy() for name, each in inputs.items()})
        except (*failures, errors.RuntimeException) as error:
            raise ValueError(f"ONNX Runtime: {error}") from error
        return torch.from_numpy(found[0])

    try:
        session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except failures as error:
        raise Refused(
            f"{name} cannot be exported to ONNX: ONNX Runtime says {_reason(error)}. Export it to "
            f"{TORCH}."
        ) from error

    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of torch's exporters, which are about their own code."""
    prefixes = ("torch", "onnxscript", "onnx_ir")
    loggers = [logging.getLogger(name) for name in prefixes]
    # torch gives many of its loggers a level of their own.
    loggers += [
        each
        for name, each in logging.root.manager.loggerDict.items()
        if isinstance(each, logging.Logger) and name.startswith(tuple(f"{p}." for p in prefixes))
    ]
    levels = [each.level for each in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for each in loggers:
                each.setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for each, level in zip(loggers, levels):
                each.setLevel(level)


def _reason(error: BaseException) -> str:
    """The first sentence of what torch says, which may be pages long."""
    chain = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    lines = [line for line in str(chain[0]).splitlines() if line.strip()]
    if len(chain) > 1 and str(chain[-1]).strip():
        lines = [line for line in str(chain[-1]).splitlines() if line.strip()]
    text = " ".join((lines or ["no words"])[0].split())
    return f"{text[:300].rstrip('.!')} ({type(chain[-1]).__name__})"


# ---------------------------------------------------------------- the check


def _compared(
    name: str,
    program: Callable[[dict[str, Tensor]], Tensor],
    rows: Mapping[str, Tensor],
    expected: Tensor,
) -> float:
    """The largest difference of a program's probabilities from the model's, at all batch sizes.

    Raises:
        Refused: it is above `TOLERANCE`, or the program does not run.
    """
    largest = 0.0
    for size in _BATCHES:
        size = min(size, len(expected))
        batch = {key: value[:size] for key, value in rows.items()}
        try:
            with torch.no_grad():
                found = program(batch)
        except Exception as error:  # as of `_exported`
            raise _refused(
                error,
                f"{name} cannot be exported: its program does not run on {size} rows, "
                f"{_reason(error)}.",
            ) from error
        if found.shape != expected[:size].shape:
            raise Refused(
                f"{name} cannot be exported: on {size} rows its program gives scores of shape "
                f"{list(found.shape)}."
            )
        difference = float((found - expected[:size]).abs().max())
        if not difference <= TOLERANCE:
            raise Refused(
                f"{name} cannot be exported: on {size} rows its program's probabilities differ "
                f"from the model's by {difference:.2g}, more than {TOLERANCE}."
            )
        largest = max(largest, difference)
    return largest


def _on(inputs: Mapping[str, Tensor], module: StaticScorer) -> dict[str, Tensor]:
    device = next(module.parameters()).device
    return {name: each.to(device) for name, each in inputs.items()}


# ---------------------------------------------------------------- the description


def _description(
    scorer: Scorer,
    module: StaticScorer,
    file: Path,
    vocabularies: Path,
    largest: float,
) -> dict[str, Any]:
    run, view = scorer.run, scorer.view
    content: dict[str, Any] = {
        "format": "recbole_genci.export",
        "format_version": 1,
        "program": {
            "file": file.name,
            "sha256": sha256_of(file),
            "made_by": f"torch {torch.__version__}",
            "device": str(next(module.parameters()).device),
        },
        "run": {
            "folder": run.folder.name if run.folder else None,
            "model": run.metrics["model"],
            "dataset": run.metrics["dataset"],
            "seed": run.metrics["seed"],
            "metrics_sha256": run.metrics.get(SEAL),
            "weights_sha256": run.metrics.get("weights_sha256"),
            "items_added": run.has_new_items,
            "unseen": scorer.unseen,
        },
        "inputs": _inputs(module),
        "outputs": [
            {
                "name": "probability",
                "dtype": "float32",
                "shape": ["B"],
                "meaning": "The probability that the user clicks on the item.",
            }
        ],
        "vocabularies": {
            "file": vocabularies.name,
            "sha256": sha256_of(vocabularies),
            "meaning": "For each vocabulary a list of tokens; a token's number is its place, from "
            "0. Place 0 is the padding.",
        },
        "checked": {
            "rows": ROWS,
            "batch_sizes": list(_BATCHES),
            "largest_difference": largest,
            "meaning": MEANING,
        },
    }
    if module.reads_history:
        step, cap = view.segment_clicks, module.longest
        count = (
            f"min(n, {cap})"
            if step == 1
            else f"min(n, {cap} - (-n mod {step})), with a mod that is never negative"
        )
        content["history"] = {
            "longest": cap,
            "clicks_read": f"Of a user's n clicks before the row, give the last {count}.",
        }
    return content


def _inputs(module: StaticScorer) -> list[dict[str, Any]]:
    return [
        {
            "name": each.name,
            "column": each.field,
            "length_of": each.length_of,
            "dtype": each.dtype,
            "shape": each.shape,
            "vocabulary": each.vocabulary,
            "size": each.size,
            "unknown": each.unknown,
            "meaning": each.meaning,
        }
        for each in module.inputs
    ]
