"""Mean NLL of a text by transformers in float32, over the chunks and positions that `dsbench run` scores, beside what a run stored.

    python compare_nll.py MODEL TEXT --convention llama --context 512 --chunks 16 [--db dsbench.db --run RUN]

Needs torch, transformers, tokenizers. A check from outside: dsbench itself needs no Python. The limit is 2e-4 nats/token."""
import argparse
import sys

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from stored_nll import compare

LIMIT = 2e-4


def windows(n, ctx, convention, n_chunk):
    """(start, first, last scored position): chunks spread evenly over the text, as docs/METRICS.md says."""
    stride = ctx // 2 if convention == "sliding" else ctx
    available = (n - ctx) // stride + 1
    count = min(n_chunk, available) if n_chunk else available
    for i in range(count):
        k = i * available // count
        first = ctx // 2 if convention == "llama" else 0
        if convention == "sliding" and k > 0:
            first = ctx - 1 - stride
        yield k * stride, first, ctx - 2


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("text")
    p.add_argument("--convention", default="llama", choices=["llama", "gptq", "sliding"])
    p.add_argument("--context", type=int, default=512)
    p.add_argument("--chunks", type=int, default=16)
    p.add_argument("--db", default="dsbench.db")
    p.add_argument("--run")
    o = p.parse_args()
    ids = Tokenizer.from_file(o.model + "/tokenizer.json").encode(open(o.text, encoding="utf-8", newline="").read(), add_special_tokens=False).ids
    model = AutoModelForCausalLM.from_pretrained(o.model, dtype=torch.float32).eval()
    total = count = 0
    for start, first, last in windows(len(ids), o.context, o.convention, o.chunks):
        x = torch.tensor([ids[start : start + o.context]])
        with torch.no_grad():
            log_p = model(x).logits[0].double().log_softmax(-1)
        total -= sum(float(log_p[i, x[0, i + 1]]) for i in range(first, last + 1))
        count += last - first + 1
    return compare("transformers", total / count, count, o.run, o.db, LIMIT)


sys.exit(main())
