"""Prefill and decode of one model by dsbench and by llama.cpp, in turn on the same machine, and the ratios of their medians.

    python llama_bench.py --model DIR --gguf bf16=M.gguf int8=M-Q8_0.gguf int4=M-Q4_0.gguf q8_0=M-Q8_0.gguf q4_0=M-Q4_0.gguf fp8_e4m3=M-Q8_0.gguf [--rounds 3] [--threads 2]

A format stands beside any file, its own or the closest. "of the ceiling": of the bandwidth or peak that dsbench measures in the same call. Each round runs `dsbench bench` of a format and then llama.cpp on the GGUF file beside it, so that both meet the same other load.
llama.cpp is that of llama-cpp-python (pip install llama-cpp-python builds it for this machine; LLAMA_CPP_LIB_PATH names another build,
such as one with -DGGML_NATIVE=OFF -DGGML_AVX512=OFF beside --isa avx2).
A comparison from outside: dsbench itself needs no Python."""
import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time


def dsbench(o, fmt, db):
    command = [o.dsbench, "bench", "--model", o.model, "--formats", fmt, "--head", "--prefill", str(o.prefill), "--decode", str(o.decode), "--repeats", "1", "--threads", str(o.threads), "--json", "--quiet", "--db", db]
    if o.text:
        command += ["--text", o.text]
    if o.isa:
        command += ["--isa", o.isa]
    rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {r["phase"]: (r["tps"], r["roofline_percent"]) for r in rows}


class Llama:
    def __init__(self, o, path):
        import llama_cpp as api

        self.api, self.o = api, o
        self.quiet = api.llama_log_callback(lambda *a: None)
        api.llama_log_set(self.quiet, ctypes.c_void_p(0))
        model = api.llama_model_default_params()
        # llama.cpp takes a DeepSeek-V2 of other than 26 or 27 blocks for one with a q_lora_rank: 0 where the file says none.
        self.override = (api.llama_model_kv_override * 2)()
        self.override[0].tag, self.override[0].key, self.override[0].value.val_i64 = 0, b"deepseek2.attention.q_lora_rank", 0
        if o.no_q_lora:
            model.kv_overrides = self.override
        context = api.llama_context_default_params()
        context.n_ctx, context.n_batch, context.n_ubatch = o.prefill + o.decode, o.prefill, o.prefill
        context.n_threads = context.n_threads_batch = o.threads
        self.model = api.llama_model_load_from_file(path.encode(), model)
        if not self.model:
            sys.exit(f"{path}: llama.cpp can't read it; --no-q-lora helps where it misses attention.q_lora_rank")
        self.context = api.llama_init_from_model(self.model, context)
        n = o.prefill + o.decode
        self.tokens = (api.llama_token * n)(*((i * 7919 + 13) % 30000 for i in range(n)))

    def feed(self, first, n):
        at = ctypes.cast(ctypes.byref(self.tokens, first * ctypes.sizeof(self.api.llama_token)), ctypes.POINTER(self.api.llama_token))
        if self.api.llama_decode(self.context, self.api.llama_batch_get_one(at, n)):
            sys.exit("llama_decode failed")

    def run(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        t = time.monotonic()
        self.feed(0, self.o.prefill)
        between = time.monotonic()
        for i in range(self.o.decode):
            self.feed(self.o.prefill + i, 1)
        return {"prefill": self.o.prefill / (between - t), "decode": self.o.decode / (time.monotonic() - between)}

    def close(self):
        self.api.llama_free(self.context)
        self.api.llama_model_free(self.model)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--dsbench", default="build/dsbench")
    p.add_argument("--model", required=True)
    p.add_argument("--gguf", nargs="+", required=True, metavar="FORMAT=FILE")
    p.add_argument("--text")
    p.add_argument("--prefill", type=int, default=512)
    p.add_argument("--decode", type=int, default=64)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--isa")
    p.add_argument("--no-q-lora", action="store_true")
    o = p.parse_args()
    print("| format | phase | dsbench t/s | of the ceiling | llama.cpp t/s | ratio | of single rounds |\n|---|---|---|---|---|---|---|")
    for pair in o.gguf:
        fmt, path = pair.split("=", 1)
        peer = Llama(o, path)
        peer.run()  # warm-up; dsbench bench has its own
        ours, theirs = [], []
        with tempfile.TemporaryDirectory() as work:
            for _ in range(o.rounds):
                ours.append(dsbench(o, fmt, os.path.join(work, "b.db")))
                theirs.append(peer.run())
        peer.close()
        for phase in ("prefill", "decode"):
            a, b, share = [r[phase][0] for r in ours], [r[phase] for r in theirs], statistics.median(r[phase][1] for r in ours)
            each = [x / y for x, y in zip(a, b)]
            print(f"| {fmt} | {phase} | {statistics.median(a):.1f} | {share:.0f} % | {statistics.median(b):.1f} | {statistics.median(a) / statistics.median(b):.2f} | {min(each):.2f} to {max(each):.2f} |", flush=True)


main()
