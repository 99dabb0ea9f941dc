"""The evaluation as a whole beside llama.cpp's: a base pass that stores logits and a KLD pass a scheme there, one run of reference and schemes here.

    python llama_perplexity.py --llama llama-perplexity --model DIR --text FILE --base M-BF16.gguf --gguf q8_0=M-Q8_0.gguf … --schemes a,b,c [--chunks 8]

Both take turns, round by round, on the same text, chunks of 512 tokens, the second half scored. Told are seconds by the clock, of the processor (user and
system) and the largest memory of a process; llama.cpp's quantizing is not counted, dsbench's is. llama-perplexity is a program of llama.cpp, built from
its sources (cmake -DLLAMA_BUILD_TOOLS=ON, target llama-perplexity). A comparison from outside: dsbench itself needs no Python."""
import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time


class Spent:
    def __init__(self, wall=0.0, cpu=0.0, rss=0):
        self.wall, self.cpu, self.rss = wall, cpu, rss

    def __add__(self, o):
        return Spent(self.wall + o.wall, self.cpu + o.cpu, max(self.rss, o.rss))


def run(command, log):
    t = time.monotonic()
    with open(log, "wb") as out:
        p = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(p.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)}: failed\n" + open(log, errors="replace").read()[-2000:])
    return Spent(time.monotonic() - t, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def llama(o, work):
    logits, log = os.path.join(work, "logits"), os.path.join(work, "log")
    common = [o.llama, "-c", "512", "-b", "512", "-t", str(o.threads), "--chunks", str(o.chunks)] + (["--override-kv", "deepseek2.attention.q_lora_rank=int:0"] if o.no_q_lora else [])
    parts = {"base": run(common + ["-m", o.base, "-f", o.text, "--kl-divergence-base", logits], log)}
    size = os.path.getsize(logits)
    for pair in o.gguf:
        name, path = pair.split("=", 1)
        parts[name] = run(common + ["-m", path, "--kl-divergence-base", logits, "--kl-divergence"], log)
        found = re.search(r"Mean +KLD: +([0-9.]+)", open(log, errors="replace").read())
        print(f"  llama.cpp {name}: mean KLD {found.group(1) if found else '?'}", file=sys.stderr)
    return sum(parts.values(), Spent()), parts, size


def dsbench(o, work, reference):
    command = [o.dsbench, "run", "--model", o.model, "--text", o.text, "--chunks", str(o.chunks), "--repeats", "0", "--schemes", o.schemes, "--threads", str(o.threads), "--quiet", "--db", os.path.join(work, "r.db")]
    if o.calibration:
        command += ["--calibration", o.calibration]
    for recipe in o.recipe:
        command += ["--recipe", recipe]
    return run(command + (["--reference", "bf16"] if reference == "bf16" else []), os.path.join(work, "log"))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--dsbench", default="build/dsbench")
    p.add_argument("--llama", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--text", required=True)
    p.add_argument("--calibration")
    p.add_argument("--base", required=True)
    p.add_argument("--gguf", nargs="+", required=True, metavar="NAME=FILE")
    p.add_argument("--schemes", required=True)
    p.add_argument("--recipe", nargs="*", default=[])
    p.add_argument("--chunks", type=int, default=8)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--no-q-lora", action="store_true")
    o = p.parse_args()
    ours, theirs, parts, size = {"f32": [], "bf16": []}, [], {}, 0
    for _ in range(o.rounds):
        with tempfile.TemporaryDirectory() as work:
            for reference in ours:
                ours[reference].append(dsbench(o, work, reference))
            all_, each, size = llama(o, work)
            theirs.append(all_)
            for name, spent in each.items():
                parts.setdefault(name, []).append(spent)
    middle = lambda list_, what: statistics.median(getattr(s, what) for s in list_)
    print(f"{o.chunks * 512} tokens, {o.threads} threads, {o.rounds} rounds; llama.cpp stores {size / 1e9:.2f} GB of logits; its passes, processor: " + ", ".join(f"{n} {middle(l, 'cpu'):.1f} s" for n, l in parts.items()))
    print("| | clock s | processor s | memory GB | llama.cpp's processor time / this |\n|---|---|---|---|---|")
    for name, list_ in [("llama.cpp", theirs)] + [(f"dsbench, {r} reference", l) for r, l in ours.items()]:
        print(f"| {name} | {middle(list_, 'wall'):.1f} | {middle(list_, 'cpu'):.1f} | {max(s.rss for s in list_) / 1e9:.2f} | {middle(theirs, 'cpu') / middle(list_, 'cpu'):.2f} |")


main()
