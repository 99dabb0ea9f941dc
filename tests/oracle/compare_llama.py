"""Mean NLL of a text by llama.cpp on a GGUF file (F32 cache), by the `llama` convention, beside what a run on the same file stored.

    python compare_llama.py MODEL.gguf TOKENIZER.json TEXT [--context 512] [--chunks 16] [--db dsbench.db --run RUN]

Needs numpy, tokenizers, llama-cpp-python. A check from outside: dsbench itself needs no Python. The limit is 1e-3 nats/token."""
import argparse
import sys

import numpy as np
from llama_cpp import Llama
from tokenizers import Tokenizer

from stored_nll import compare

LIMIT = 1e-3
F32 = 0  # ggml's number for the type of keys and values


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("tokenizer")
    p.add_argument("text")
    p.add_argument("--context", type=int, default=512)
    p.add_argument("--chunks", type=int, default=16)
    p.add_argument("--db", default="dsbench.db")
    p.add_argument("--run")
    o = p.parse_args()
    ids = Tokenizer.from_file(o.tokenizer).encode(open(o.text, encoding="utf-8", newline="").read(), add_special_tokens=False).ids
    n = o.context
    model = Llama(o.model, n_ctx=n, n_batch=n, n_ubatch=n, logits_all=True, type_k=F32, type_v=F32, flash_attn=False, verbose=False)
    available = (len(ids) - n) // n + 1
    chunks = min(o.chunks, available)
    total = count = 0
    for i in range(chunks):
        start = i * available // chunks * n
        x = ids[start : start + n]
        model.reset()
        model.eval(x)
        z = np.asarray(model.scores[:n], dtype=np.float64)
        top = z.max(-1, keepdims=True)
        log_p = z - top - np.log(np.exp(z - top).sum(-1, keepdims=True))
        total -= sum(log_p[j, x[j + 1]] for j in range(n // 2, n - 1))
        count += n - 1 - n // 2
    return compare("llama.cpp", total / count, count, o.run, o.db, LIMIT)


sys.exit(main())
