#!/usr/bin/env python3
"""Differences of chunks between two schemes of one run of the built-in model, for tests/simulation: what real ones look like.
dsbench run --schemes dynamic-int8,static-int8,int4-rtn,int4-gptq --chunks 256 --repeats 0 --run-id real --db real.db
python make_chunk_differences.py real.db > ../fixtures/chunk_differences.json"""
import json
import sqlite3
import sys

db = sqlite3.connect(sys.argv[1])
rows = lambda s: db.execute("SELECT nll_test - nll_ref, kld, selection_change FROM chunk_quality WHERE run_id = 'real' AND scheme = ? ORDER BY chunk", (s,)).fetchall()
pairs = [("int4-rtn", "int4-gptq"), ("dynamic-int8", "static-int8")]
out = [dict(base=a, head=b, metrics=["delta_nll", "kld_mean", "selection_change"], d=[[float("%.7g" % (y - x)) for x, y in zip(p, q)] for p, q in zip(rows(a), rows(b))]) for a, b in pairs]
json.dump(out, sys.stdout, separators=(",", ":"))
sys.stdout.write("\n")
