"""Self-check of hf.py: each tiny random model of a folder is trained for a few steps on random tokens and exported; the export's
weights must be the fake-quantized ones bit for bit, and `dsbench trace` must compute with them what transformers does."""
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from . import evaluate, hf, qat
from .fake import WeightQuantizer


def steps(model, teacher, ids, count, rate):
    params = [p for p in model.parameters() if p.requires_grad]
    adam = torch.optim.AdamW(params, lr=rate, weight_decay=0.0, eps=1e-12)
    losses = []
    for _ in range(count):
        with torch.no_grad():
            goal = teacher(input_ids=ids, use_cache=False).logits
        loss = qat.divergence(model(input_ids=ids, use_cache=False).logits, goal)
        loss.backward()
        adam.step()
        adam.zero_grad(set_to_none=True)
        losses.append(loss.item())
    return losses


def stored_difference(model, plain, mixtral):
    """How many values of the export are not what the fake quantizers give."""
    wrong = 0
    for name, module in model.named_modules():
        if isinstance(module, hf.QuantLinear):
            wrong += (module.fake(module.weight) != plain[name + ".weight"]).sum().item()
        elif hf.is_experts(module):
            leaves = ("w1", "w3", "w2") if mixtral else hf.NAMES
            for e in range(module.num_experts):
                gate_up = module.gate_up_proj_fake(hf.rows(module, "gate_up_proj"), e)
                halves = gate_up.chunk(2) if module.is_concatenated else (gate_up[0::2], gate_up[1::2])
                for leaf, w in zip(leaves, (*halves, module.down_proj_fake(hf.rows(module, "down_proj"), e))):
                    wrong += (w != plain[f"{hf.stored_name(name, mixtral)}.{e}.{leaf}.weight"]).sum().item()
    return wrong


def one(folder, dsbench, bits, group, step):
    torch.manual_seed(1)
    raw = json.loads((folder / "config.json").read_text())
    teacher, student = hf.load(folder).eval(), hf.load(folder).eval()
    ids = torch.randint(0, raw["vocab_size"], (4, 24))
    before = teacher(input_ids=ids, use_cache=False).logits
    hf.install(student, lambda w: WeightQuantizer(w, bits, group, step))
    for module in student.modules():
        if hasattr(module, "fake_on"):
            module.fake_on = False
    same = (student(input_ids=ids, use_cache=False).logits - before).abs().max().item()
    for module in student.modules():
        if hasattr(module, "fake_on"):
            module.fake_on = True
    losses = steps(student, teacher, ids, 16, 1e-3 if bits == 4 else 3e-5)
    with tempfile.TemporaryDirectory() as out, torch.no_grad():
        out = Path(out)
        hf.write(student, folder, out, bits, group)
        wrong = stored_difference(student, evaluate.plain_tensors(load_file(out / "model.safetensors"), group), "MixtralForCausalLM" in raw["architectures"])
        rounded = load_file(out / "model.safetensors")  # what is not quantized is stored in the source's type
        for name, p in student.named_parameters():
            key = hf.stored_name(name, "MixtralForCausalLM" in raw["architectures"]) if ".mlp." in name else name
            if key in rounded and rounded[key].shape == p.shape and rounded[key].is_floating_point():
                p.copy_(rounded[key].float())
        hf.quantize_inputs(student, False)
        (out / "tokens.json").write_text(json.dumps({"sequences": [ids[0].tolist()]}))
        subprocess.run([dsbench, "trace", "--model", out, "--tokens", out / "tokens.json", "-o", out / "trace.safetensors", "-q"], check=True)
        got = load_file(out / "trace.safetensors")["seq0.logits"]
        far = (got - student(input_ids=ids[:1], use_cache=False).logits[0]).abs().max().item()
    ok = same < 1e-4 and wrong == 0 and far < 1e-3        # the loss is only shown: so tiny a router jumps
    print(f"{folder.name:14} int{bits} group {group or 'row'} {step}: KL {losses[0]:.4f} -> {losses[-1]:.4f}; unlike transformers without quantizers {same:.1e}; "
          f"stored values that differ {wrong}; engine's logits off by {far:.1e}: {'good' if ok else 'WRONG'}", flush=True)
    return ok


def as_published(folder, scratch):
    """What published checkpoints say and the project's fixtures leave out: "metadata" of a shard index, a null q_lora_rank."""
    shutil.copytree(folder, scratch)
    config = json.loads((scratch / "config.json").read_text())
    if config["model_type"] == "deepseek_v2":
        (scratch / "config.json").write_text(json.dumps({"q_lora_rank": None} | config))
    index = scratch / "model.safetensors.index.json"
    if index.exists():
        index.write_text(json.dumps({"metadata": {}} | json.loads(index.read_text())))
    return scratch


def run(folder, dsbench):
    good = True
    for model in sorted(p for p in Path(folder).iterdir() if p.is_dir()):
        for bits, group, step in ((4, 8, "lsq"), (4, 8, "absmax"), (8, None, "lsq")):
            with tempfile.TemporaryDirectory() as scratch:
                good &= one(as_published(model, Path(scratch) / model.name), dsbench, bits, group, step)
    raise SystemExit(not good)
