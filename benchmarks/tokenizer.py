"""Semantic IDs at scale: the fit of a catalogue, against vector-quantize-pytorch, and the cost of
assigning codes.

    python benchmarks/tokenizer.py
    python benchmarks/tokenizer.py --items=500 --dim=16 --codes=16 --epochs=4 --assign=1000,2000 \\
        --threads=1

The first measures 24,588 items x 768 with 3 x 256 codes, and assigns codes to 10^4 to 10^6 items.

There are four parts. Each row is measured in its own process, so that its peak memory is its own:

- fit: RQ-VAE and residual k-means on synthetic items (clusters within clusters plus noise), with
  the quality reached;
- reference: ResidualVQ (k-means start, EMA) in the same autoencoder for the same epochs and
  batches; ratios of time;
- memory: peak of the fit's growth at one, two and four times fewer items: linear means the last
  column is constant;
- assign: codes of new items under a frozen RQ-VAE, where the time per item should not grow.

On paper, 10^8 items: the codebooks need a sample, not the catalogue. Fit on some 10^6 items drawn
evenly (mini-batch k-means then refines centres on a stream, which changes little at 4,000 rows per
code); encode the rest in a stream of chunks,
reading vectors by memory map and writing codes by rows: one pass, 3 bytes an item at 3 x 256. From
    the time per item of the
assign part, 10^8 items take 10^8 times that, divided by the machines. Collision digits are one sort
of 10^8 packed keys (int64), which fits a machine with 8 GB or an external sort.

Run it on a quiet machine; only the ratios carry over to another one.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
import torch

from recbole_genci.config import parse_argv
from recbole_genci.tokenizer.quantization.determinism import fixed_threads
from recbole_genci.tokenizer.quantization.fit_result import encode_all
from recbole_genci.tokenizer.quantization.fit_rkmeans import fit_rkmeans
from recbole_genci.tokenizer.quantization.fit_rqvae import fit_rqvae
from recbole_genci.tokenizer.quantization.options import QuantizerOptions, RQVAEOptions
from recbole_genci.tokenizer.quantization.quality import codes_quality
from recbole_genci.tokenizer.quantization.residual_kmeans import residual_kmeans
from recbole_genci.tokenizer.quantization.rqvae import RQVAE

DEFAULTS = {
    "items": 24_588,
    "dim": 768,
    "codes": 256,
    "epochs": 300,
    "threads": 2,
    "assign": (10**4, 10**5, 10**6),
}
LATENT, HIDDEN, BATCH = 32, (128, 64), 1024


def synthetic_items(items: int, dim: int, seed: int = 0) -> np.ndarray:
    """Vectors of length 1 in clusters within clusters, ``[items, dim]`` float32, made in pieces."""
    rng = np.random.default_rng(seed)
    directions = [rng.normal(size=(number, dim)).astype(np.float32) for number in (50, 500)]
    rows = 0.4 * rng.standard_normal(size=(items, dim), dtype=np.float32)
    for weight, centres in zip((1.0, 0.6), directions, strict=True):
        for part in np.array_split(rows, -(-items // 65_536)):
            part += weight * centres[rng.integers(0, len(centres), len(part))]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux


def _figures(quality: dict) -> dict:
    levels = quality["levels"]
    return {
        "collisions": quality["collision_rate"],
        "perplexity": "/".join(f"{level['perplexity']:.0f}" for level in levels),
        "largest code": max(level["largest_share"] for level in levels),
        **({"error": quality["reconstruction_error"]} if "reconstruction_error" in quality else {}),
    }


def fit_row(kind: str, items: int, dim: int, codes: int, epochs: int, threads: int) -> dict:
    """Time, growth of memory and quality of one fit."""
    data = synthetic_items(items, dim)
    fit = {
        "rqvae": lambda rows: (
            fit_rqvae(rows, RQVAEOptions(codebook_size=codes, rqvae_epochs=epochs)).quality
        ),
        "rkmeans": lambda rows: fit_rkmeans(rows, QuantizerOptions(codebook_size=codes)).quality,
        "ResidualVQ": lambda rows: _fit_reference(rows, codes, epochs),
    }[kind]
    with fixed_threads(threads):
        _fit_reference(data[:64], 4, 4) if kind == "ResidualVQ" else fit_rqvae(
            data[:64], RQVAEOptions(codebook_size=4, rqvae_epochs=4)
        )
        before, start = _peak_mb(), time.perf_counter()  # libraries are loaded by now
        quality = fit(data)
        seconds = time.perf_counter() - start
    growth = _peak_mb() - before
    return {
        "quantiser": kind,
        "items": items,
        "seconds": seconds,
        "growth MB": growth,
        "kB/item": growth * 1024 / items,
    } | _figures(quality)


def _fit_reference(data: np.ndarray, codes: int, epochs: int) -> dict:
    """ResidualVQ in the place of our codebooks: our autoencoder, optimiser, batches and number of
    epochs.
    """
    from vector_quantize_pytorch import ResidualVQ

    rows = torch.from_numpy(data)
    generator = torch.Generator().manual_seed(2020)
    model = RQVAE(data.shape[1], [codes] * 3, LATENT, HIDDEN)
    model.reset_parameters(generator)
    model.set_input_statistics(rows)
    quantizer = ResidualVQ(
        dim=LATENT,
        num_quantizers=3,
        codebook_size=codes,
        kmeans_init=True,
        kmeans_iters=50,
        threshold_ema_dead_code=1,
        rotation_trick=False,
    )
    optimizer = torch.optim.Adam(
        [*model.encoder.parameters(), *model.decoder.parameters()], lr=1e-3
    )
    # The first quarter without codes, as ours.
    for epoch in range(epochs):
        for batch in rows[torch.randperm(len(rows), generator=generator)].split(BATCH):
            latent = model.encode(batch)
            loss = 0.0
            if epoch >= epochs // 4:
                latent, _, commitment = quantizer(latent[None])
                latent, loss = latent[0], 0.25 * commitment.sum() * LATENT
            loss = loss + model.reconstruction_loss(model.decode(latent), batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        quantized, index, _ = quantizer.eval()(model.encode(rows)[None])
        error = float(
            (model.decode(quantized[0]) - rows).square().sum()
            / (rows - model.input_mean).square().sum()
        )
    return codes_quality(index[0].numpy(), [codes] * 3) | {"reconstruction_error": error}


def assign_row(items: int, dim: int, codes: int, threads: int) -> dict:
    """Time to encode and quantise random items in chunks under an RQ-VAE that k-means started."""
    generator = torch.Generator().manual_seed(0)
    model = RQVAE(dim, [codes] * 3, LATENT, HIDDEN)
    model.reset_parameters(generator)
    sample = torch.from_numpy(synthetic_items(20 * codes, dim))
    model.set_input_statistics(sample)
    with torch.no_grad(), fixed_threads(threads):
        model.init_codebooks(residual_kmeans(model.encode(sample), 3, codes, generator))
        before, seconds = _peak_mb(), 0.0
        for number, start in enumerate(
            range(0, items, 1 << 16)
        ):  # a stream: never all vectors at once
            chunk = torch.from_numpy(
                synthetic_items(min(1 << 16, items - start), dim, seed=number + 1)
            )
            begin = time.perf_counter()
            encode_all(model, chunk)
            seconds += time.perf_counter() - begin
    return {
        "items": items,
        "seconds": seconds,
        "us/item": 1e6 * seconds / items,
        "growth MB": _peak_mb() - before,
    }


def _apart(function, **arguments) -> dict:
    """Call in a fresh process, whose peak memory is this call's alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, **arguments).result()


def _print(title: str, rows: list[dict]) -> None:
    print(
        f"\n{title}\n{pd.DataFrame(rows).to_string(index=False, float_format='{:.4g}'.format)}",
        flush=True,
    )


def main(argv: list[str]) -> None:
    words = DEFAULTS | parse_argv(argv)
    unknown = words.keys() - DEFAULTS.keys()
    if unknown:
        sys.exit(
            f"benchmarks/tokenizer.py: unknown {sorted(unknown)}; choose from {sorted(DEFAULTS)}."
        )
    size = {key: words[key] for key in ("dim", "codes", "threads")}
    fit = size | {"epochs": words["epochs"]}
    print(
        f"{words['items']} items x {words['dim']}, 3 x {words['codes']} codes, {words['epochs']} "
        "epochs, "
        f"{words['threads']} threads, torch {torch.__version__}"
    )
    rows = [
        _apart(fit_row, kind=kind, items=words["items"], **fit)
        for kind in ("rqvae", "rkmeans", "ResidualVQ")
    ]
    for row in rows:
        row["time / ResidualVQ's"] = row["seconds"] / rows[-1]["seconds"]
    _print("Fit, and ResidualVQ in the same autoencoder for as many epochs", rows)
    # Memory does not depend on the number of epochs.
    short = fit | {"epochs": min(8, words["epochs"])}
    rows = [
        _apart(fit_row, kind="rqvae", items=words["items"] // part, **short) for part in (4, 2, 1)
    ]
    _print(
        "Memory of the fit",
        [{key: row[key] for key in ("items", "growth MB", "kB/item")} for row in rows],
    )
    assign = words["assign"] if isinstance(words["assign"], (tuple, list)) else [words["assign"]]
    _print("Codes of new items", [_apart(assign_row, items=items, **size) for items in assign])


if __name__ == "__main__":
    main(sys.argv[1:])
