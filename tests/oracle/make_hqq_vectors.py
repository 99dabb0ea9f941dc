#!/usr/bin/env python3
"""Codes and zero points of HQQ by its own package (hqq 0.2.8, torch on the CPU), a group at a time: writes tests/fixtures/hqq_vectors.json.
Groups are drawn until no w/S + Z of any step, in f64, lies within MARGIN of a tie and no step's mean |error| within MARGIN of the best before (unless
nothing changes any more), so that every f32 implementation must find the same codes, and zero points that differ by rounding alone; and until no step makes a difference of zero
points larger (its derivative is at most 1), so that the roundings of all steps add up and no more.   python make_hqq_vectors.py > ../fixtures/hqq_vectors.json"""
import json
import sys

import numpy as np
import torch
from hqq.core.quantize import Quantizer

MARGIN = 1e-4
# bits, weights of a group, their size: of 1 and more the shrinkage keeps something of an error
CASES = [(4, 32, 0.05), (4, 64, 0.05), (4, 32, 8.0), (3, 32, 0.05), (3, 32, 2.0), (2, 32, 0.05), (2, 32, 1.0), (8, 16, 1.0)]


def clear(w, bits):
    """Whether an f64 run stays off ties; how many steps it took, and whether the shrinkage kept anything."""
    w, top = w.astype(np.float64), 2**bits - 1
    step = (w.max() - w.min()) / top
    zero, beta, best, kept, last = -w.min() / step, 10.0, np.inf, False, None
    for k in range(20):
        v = w / step + zero
        if (abs(v - np.floor(v) - 0.5) < MARGIN).any():
            return None
        q = np.clip(np.rint(v), 0, top)
        e = w - (q - zero) * step
        a = abs(e)
        keep = np.sign(e) * np.maximum(a - np.maximum(a, 1e-30) ** -0.3 / beta, 0)
        kept |= bool((keep != 0).any())
        if ((keep != 0) * (1 + 0.3 * np.maximum(a, 1e-30) ** -1.3 / beta)).mean() > 1:
            return None
        zero, error = (q - (w - keep) / step).mean(), a.mean()
        if last is not None and (q == last).all() and not (keep != 0).any():
            break
        if abs(error - best) < MARGIN * error:
            return None
        last = q
        if error >= best:
            break
        best = error
    v = w / step + zero
    return None if (abs(v - np.floor(v) - 0.5) < MARGIN).any() else (k + 1, kept)


def main():
    rng, out = np.random.default_rng(5), []
    for bits, n, size in CASES:
        found = None
        while not found or found[0] < 4 or (size >= 1 and bits < 8 and not found[1]):
            w = np.round(rng.standard_t(5, n) * size, 4).astype(np.float32)
            found = clear(w, bits)
        q, meta = Quantizer.quantize(torch.from_numpy(w.reshape(1, n)), nbits=bits, group_size=n, optimize=True, round_zero=False, axis=1, bitpack=False, device="cpu", compute_dtype=torch.float32)
        out.append({"bits": bits, "steps": found[0], "w": [float(f"{x:.4f}") for x in w], "codes": q.flatten().int().tolist(), "scale": float(meta["scale"]), "zero": float(meta["zero"])})
    sys.stdout.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in out) + "\n]\n")


main()
