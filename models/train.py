#!/usr/bin/env python3
"""The recipe of models/dsmoe-tiny, step by step. Each subcommand reads what the one before wrote.

    train.py corpus                       packages -> build/corpus/text/PACKAGE.txt
    train.py tokenizer                    text -> dsmoe-tiny/tokenizer.json
    train.py prepare                      text -> build/corpus/{train,held,jargon}.npy
    train.py train --seconds S --total T  -> build/corpus/state.pt, dsmoe-tiny/model.safetensors
    train.py qat --bits 4 --seconds S     model.safetensors -> dsmoe-tiny/qat-int4
    train.py qat-of --model DIR --text FILE --out DIR    the same of any model (needs transformers)
    train.py check-qat                    exports of every architecture, read by ../build/dsbench (needs transformers)
    train.py evaluate                     bits per byte and expert load of all three
    train.py plot                         dsmoe-tiny/loss.svg
    train.py fixtures                     ../tests/fixtures/dsmoe-tiny-logits (needs transformers)
"""
import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from recipe import corpus, tokenizer

HERE = Path(__file__).resolve().parent
MODEL = HERE / "dsmoe-tiny"


def documents(args):
    """(training documents, held-out documents), clear of the evaluation text."""
    evaluation = Path(args.evaluation).read_text(encoding="utf-8")
    return corpus.split_held_out(corpus.decontaminate(corpus.read_documents(args.work / "text", random.Random(3)), evaluation))


def encode(tok, docs):
    ids = []
    for i in range(0, len(docs), 512):
        for e in tok.encode_batch(docs[i:i + 512], add_special_tokens=False):
            ids.append(np.array(e.ids + [tokenizer.EOS_ID], np.uint16))
    return np.concatenate(ids)


def make_corpus(args):
    args.work.mkdir(parents=True, exist_ok=True)
    corpus.build(corpus.BASE + corpus.EXTRA, args.work / "packages", args.work / "text")


def make_tokenizer(args):
    tokenizer.train(corpus.vary(documents(args)[0], 0.03, random.Random(2)), args.vocab, MODEL)


def prepare(args):
    from recipe import evaluate
    tok = tokenizer.load(MODEL)
    train, held = documents(args)
    for name, docs, share in (("train", train, 0.08), ("held", held, 0)):
        np.save(args.work / f"{name}.npy", encode(tok, corpus.vary(docs, share, random.Random(2))))
    np.save(args.work / "jargon.npy", evaluate.encode_text(tok, Path(args.evaluation).read_text(encoding="utf-8")))


def run_training(args):
    from recipe import export, model, train
    trained, history, done = train.train(
        np.load(args.work / "train.npy"), np.load(args.work / "held.npy"), args.work / "state.pt", args.seconds, args.total,
        config=model.SIZES[args.size], device=args.device, batch=args.batch, muon_lr=args.rate, adam_lr=args.rate)
    export.export_bf16(trained, MODEL)
    (MODEL / "history.json").write_text(json.dumps(history) + "\n")
    print("finished" if done else "call again to go on")


def run_qat(args):
    from recipe import evaluate, export, qat
    args.group = None if args.group == "channel" else int(args.group)
    ids, held = np.load(args.work / "train.npy"), np.load(args.work / "held.npy")[:64 * 512]
    out = args.out or MODEL / f"qat-int{args.bits}"
    start = evaluate.load(MODEL)
    student, report = qat.train_quantized(start.state_dict(), start.c, ids, held, args)
    export.export_quantized(student, args.bits, args.group, out)
    print(json.dumps(report), flush=True)


def run_qat_of(args):
    from recipe import hf
    args.group = None if args.group == "channel" else int(args.group)
    print(json.dumps(hf.train_quantized(args)), flush=True)


def check_qat(args):
    from recipe import check
    check.run(HERE.parent / "tests/fixtures/architectures", HERE.parent / "build/dsbench")


def run_evaluation(args):
    from recipe import evaluate
    sizes = evaluate.token_bytes(tokenizer.load(MODEL))
    for folder in (MODEL, MODEL / "qat-int8", MODEL / "qat-int4"):
        model = evaluate.load(folder, args.device)
        for text in ("held", "jargon"):
            figures = evaluate.measure(model, np.load(args.work / f"{text}.npy"), sizes, device=args.device, every=args.every)
            print(folder.name, text, json.dumps(figures), flush=True)


def plot(args):
    import matplotlib
    matplotlib.use("svg")
    import matplotlib.pyplot as plt
    _, tokens, train, held = np.array(json.loads((MODEL / "history.json").read_text())).T
    plt.rcParams["svg.hashsalt"] = "dsmoe-tiny"
    fig, ax = plt.subplots(figsize=(7, 3.6))
    ax.plot(tokens / 1e6, train, label="training (mean since the last point)")
    ax.plot(tokens / 1e6, held, label="held-out documents")
    ax.set(xlabel="tokens seen [million]", ylabel="nats per token", title="dsmoe-tiny")
    ax.grid(alpha=0.3)
    ax.legend()
    fig.tight_layout()
    fig.savefig(MODEL / "loss.svg", metadata={"Date": None})


def make_fixtures(args):
    from recipe import fixtures
    fixtures.write(MODEL, np.load(args.work / "held.npy"), HERE.parent / "tests/fixtures/dsmoe-tiny-logits")


COMMANDS = {"corpus": make_corpus, "tokenizer": make_tokenizer, "prepare": prepare, "train": run_training,
            "qat": run_qat, "qat-of": run_qat_of, "check-qat": check_qat,
            "evaluate": run_evaluation, "plot": plot, "fixtures": make_fixtures}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("command", choices=COMMANDS)
    p.add_argument("--work", type=Path, default=HERE.parent / "build/corpus")
    p.add_argument("--evaluation", help="jargon.txt, kept apart (default WORK/jargon.txt)")
    p.add_argument("--size", choices=["small", "wide"], default="small", help="recipe/model.py, SIZES")
    p.add_argument("--batch", type=int, default=16, help="sequences per step")
    p.add_argument("--rate", type=float, help="learning rate of train (Muon and AdamW: 2.5e-3), of AdamW in qat (3e-4) and qat-of (1e-5)")
    p.add_argument("--vocab", type=int, default=6144)
    p.add_argument("--seconds", type=float, default=6000, help="this call's share of the training time")
    p.add_argument("--total", type=float, default=6000, help="planned training time, all calls together")
    p.add_argument("--every", type=int, default=1, help="evaluate every n-th chunk only")
    p.add_argument("--device", default="cpu")
    q = p.add_argument_group("qat")
    q.add_argument("--bits", type=int, choices=[4, 8], default=4)
    q.add_argument("--group", default="32", help="inputs a step, or channel")
    q.add_argument("--step", choices=["lsq", "absmax"], default="lsq", help="learned step sizes, or absmax at every pass")
    q.add_argument("--start", choices=["mse", "absmax", "paper"], default="mse", help="what learned steps begin with")
    q.add_argument("--temperature", type=float, default=1.0, help="of the KL to the full-precision model")
    q.add_argument("--kl-weight", type=float, default=1.0, help="the rest is cross-entropy")
    q.add_argument("--steps", type=int, help="instead of --seconds")
    q.add_argument("--muon-rate", type=float, default=4e-4, help="qat: learning rate of the matrices")
    q.add_argument("--step-rate", type=float, default=1e-3, help="learning rate of steps, relative to their first value")
    q.add_argument("--frozen", nargs="*", choices=["weights", "norms", "router"], default=[], help="what is not trained; embeddings and lm_head never are")
    q.add_argument("--model", type=Path, help="qat-of: a Hugging Face directory")
    q.add_argument("--text", type=Path, help="qat-of: training text; the last fiftieth is held out")
    q.add_argument("--checkpointing", action="store_true", help="qat-of: compute blocks again in the backward pass, for memory")
    q.add_argument("--eager", dest="compiled", action="store_false", help="no torch.compile")
    q.add_argument("--log-every", type=int, default=50)
    q.add_argument("--out", type=Path, help="folder of the export (default of qat: dsmoe-tiny/qat-intBITS)")
    args = p.parse_args()
    args.rate = args.rate or (3e-4 if args.command == "qat" else 1e-5 if args.command == "qat-of" else 2.5e-3)
    args.evaluation = args.evaluation or args.work / "jargon.txt"
    COMMANDS[args.command](args)


if __name__ == "__main__":
    main()
