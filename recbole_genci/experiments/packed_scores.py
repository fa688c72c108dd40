"""The test scores of many runs in one compressed file, from which tables can be made again.

A score is kept as its logit, rounded so finely that no metric changes by more than ``TOLERANCE``,
and so that the order of each user's rows stays. A run can also be kept exactly, as float32. The
file is an ``.npz`` that ``numpy.load`` reads without pickle; equal scores give equal bytes.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Set
from pathlib import Path

import numpy as np
from sklearn.metrics import log_loss, roc_auc_score

from recbole_genci.evaluation.gauc import gauc
from recbole_genci.utils.digests import check_file
from recbole_genci.utils.sha256 import sha256_of
from recbole_genci.utils.writing import write_atomically

#: By how much rounding may change AUC, LogLoss or GAUC of a run.
TOLERANCE = 1e-5
_FEWEST, _FINEST = 6, 13  # binary digits of a logit behind the point
_FEW_ROWS = 20_000  # up to which all digits are kept
_PLANES = 4  # bytes of a rounded logit
# Beyond these logits a float32 score is exactly 0 or 1.
_LEAST, _GREATEST = -104.0, 40.0


def write_packed(
    folder: Path,
    scores: Mapping[str, np.ndarray],
    users: np.ndarray,
    exact: Set[str],
    digits: int,
) -> tuple[str, str]:
    """Write the scores of runs into ``scores-<digest>.npz``.

    Args:
        folder: folder of the file.
        scores: click probabilities ``[R]``, float32, by the run's hash.
        users: the user of each row, ``[R]``.
        exact: hashes of the runs that keep every bit.
        digits: binary digits behind the point that the other runs' logits keep.

    Returns:
        tuple[str, str]: name and SHA-256 of the file.
    """
    rounded = [name for name in sorted(scores) if name not in exact]
    kept = [name for name in sorted(scores) if name in exact]
    rows = len(next(iter(scores.values())))
    codes = np.array([_codes(scores[name], users, digits) for name in rounded], dtype=np.int64)
    codes = codes.reshape(len(rounded), rows)
    # Models agree on most rows: the distance from their mean takes fewer bits than the logit.
    mean = np.rint(codes.mean(axis=0)).astype(np.int64) if rounded else np.zeros(rows, np.int64)
    content = {
        "rounded": np.array(rounded, dtype="S64"),
        "digits": np.array(digits, dtype=np.int64),
        "bytes": _planes(np.concatenate([mean[None], codes - mean])),
        "exact": np.array(kept, dtype="S64"),
        "exact_scores": np.array([scores[name] for name in kept], dtype="<f4").reshape(-1, rows),
    }
    temporary = folder / "scores.npz"
    write_atomically(temporary, lambda path: _write_archive(path, content))
    digest = sha256_of(temporary)
    name = f"scores-{digest[:16]}.npz"
    temporary.replace(folder / name)
    return name, digest


def read_packed(file: Path, sha256: str) -> dict[str, np.ndarray]:
    """The scores of a packed file, float32 ``[R]`` by the run's hash.

    Raises:
        ValueError: the file is missing, damaged or another one.
    """
    with _opened(file, sha256) as content:
        parts = {name: content[name] for name in content.files}
    whole = _numbers(parts["bytes"])
    logits = (whole[1:] + whole[0]) / 2.0 ** parts["digits"].item()
    rounded = (1 / (1 + np.exp(-logits))).astype(np.float32)
    found = {name.decode(): row for name, row in zip(parts["rounded"], rounded)}
    exact = zip(parts["exact"], parts["exact_scores"].astype(np.float32))
    return found | {name.decode(): row for name, row in exact}


def exact_runs(file: Path, sha256: str) -> set[str]:
    """Hashes of the runs of which a packed file keeps every bit.

    Raises:
        ValueError: as `read_packed`.
    """
    with _opened(file, sha256) as content:
        return {name.decode() for name in content["exact"]}


def _opened(file: Path, sha256: str) -> np.lib.npyio.NpzFile:
    remedy = "Fetch it again from where the records came from"
    if not file.is_file():
        raise ValueError(f"{file} is missing. {remedy}.")
    check_file(file, sha256, f"{remedy}, or delete it, and its runs are trained again.")
    return np.load(file, allow_pickle=False)


def digits_needed(
    scores: Mapping[str, np.ndarray], users: np.ndarray, labels: np.ndarray
) -> tuple[int, set[str]]:
    """The fewest binary digits with which no run's metric changes by more than half of
    ``TOLERANCE``; on few rows as many as there may be, so that tables keep what they print.

    Args:
        scores: as for ``write_packed``.
        users, labels: of the test rows, ``[R]``.

    Returns:
        tuple[int, set[str]]: the digits, and the hashes of the runs that need more than there may
            be.
    """
    enough, never = _FEWEST if len(labels) > _FEW_ROWS else _FINEST, set()
    for name, row in scores.items():
        before = _metrics(users, labels, row)
        for digits in range(enough, _FINEST + 1):
            after = _metrics(users, labels, _rounded(row, users, digits))
            if np.abs(after - before).max(initial=0) <= TOLERANCE / 2:
                enough = digits
                break
        else:
            never.add(name)
    return enough, never


def _codes(scores: np.ndarray, users: np.ndarray, digits: int) -> np.ndarray:
    """The logits in steps of ``2 ** -digits``, rounded; those of one user keep their order.

    One pair of rows that became equal would change the GAUC of a small dataset by more than
    ``TOLERANCE``.
    """
    wide = scores.astype(np.float64)
    with np.errstate(divide="ignore"):
        logits = np.clip(np.log(wide) - np.log1p(-wide), _LEAST, _GREATEST)
    codes = np.rint(logits * 2.0**digits).astype(np.int64)
    order = np.lexsort((scores, users))
    ordered, codes_there = scores[order], codes[order]
    same_user = users[order][1:] == users[order][:-1]
    least = (ordered[1:] > ordered[:-1]).astype(np.int64)  # 0 between equal scores
    while True:
        wanted = np.where(same_user, codes_there[:-1] + least, codes_there[1:])
        if (wanted <= codes_there[1:]).all():
            break
        codes_there[1:] = np.maximum(codes_there[1:], wanted)
    codes[order] = codes_there
    return codes


def _rounded(scores: np.ndarray, users: np.ndarray, digits: int) -> np.ndarray:
    return 1 / (1 + np.exp(-_codes(scores, users, digits) / 2.0**digits))


def _metrics(users: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """LogLoss, AUC and GAUC, without those that are undefined on these rows."""
    scores = scores.astype(np.float64)
    values = [log_loss(labels, scores, labels=[0, 1]), gauc(users, labels, scores)]
    if 0 < labels.mean() < 1:
        values.append(roc_auc_score(labels, scores))
    return np.array([value for value in values if value == value])


def _planes(numbers: np.ndarray) -> np.ndarray:
    """Signed numbers ``[N, R]`` as bytes ``[4, N, R]``: the sign is the lowest bit, so that the
    high bytes of small numbers are 0.
    """
    folded = (numbers << 1) ^ (numbers >> 63)
    return np.stack([(folded >> (8 * place)) & 255 for place in range(_PLANES)]).astype(np.uint8)


def _numbers(planes: np.ndarray) -> np.ndarray:
    folded = sum(plane.astype(np.int64) << (8 * place) for place, plane in enumerate(planes))
    return (folded >> 1) ^ -(folded & 1)


def _write_archive(path: Path, content: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in content.items():
            stream = io.BytesIO()
            np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
            # A fixed date, so that the same scores give the same bytes.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_LZMA
            archive.writestr(entry, stream.getvalue())
