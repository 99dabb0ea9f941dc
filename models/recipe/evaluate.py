"""Bits per byte and expert load of an exported folder (BF16, INT8 or INT4) on a text."""
import json
import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from . import corpus, export, qat, tokenizer
from .model import Config, Model


def unpack_int4(packed, shape):
    word = packed.to(torch.int64).unsqueeze(-1) >> (4 * torch.arange(8))
    return ((word & 15) - 8).flatten(-2)[:, :int(shape[1])].float()


def plain_tensors(tensors, group=None):
    """Integer exports back to floats: codes times scales, one a `group` inputs (None: a row)."""
    out = {}
    for name, t in tensors.items():
        base = name.rsplit(".", 1)[0]
        if name.endswith((".weight_scale", ".weight_shape")):
            continue
        if name.endswith(".weight_packed"):
            codes, scale = unpack_int4(t, tensors[base + ".weight_shape"]), tensors[base + ".weight_scale"]
            out[base + ".weight"] = codes * scale.repeat_interleave(group or codes.shape[1], 1)[:, :codes.shape[1]]
        elif t.dtype == torch.int8:
            out[name] = t.float() * tensors[base + ".weight_scale"].repeat_interleave(group or t.shape[1], 1)[:, :t.shape[1]]
        else:
            out[name] = t
    return out


class Exact(torch.nn.Module):
    """Already quantized weights go through the forward pass unchanged."""
    def forward(self, w):
        return w


def load(folder, device="cpu"):
    """A model from an exported folder; quantized ones get their activation quantizers."""
    raw = json.loads((Path(folder) / "config.json").read_text())
    model = Model(Config(**{k: raw[k] for k in Config.__dataclass_fields__}))
    quantization = raw.get("quantization_config")
    group = quantization and quantization["config_groups"]["group_0"]["weights"]["group_size"]
    export.load_into(model, plain_tensors(load_file(Path(folder) / "model.safetensors"), group))
    if quantization:
        qat.install(model, lambda w: Exact())
    return model.to(device).eval()


@torch.no_grad()
def measure(model, ids, token_bytes, context=512, batch=32, device="cpu", every=1):
    """All predictions inside every `every`-th whole chunk: {bits_per_byte, nats_per_token, load (layers, experts)}."""
    n = len(ids) // context
    chunks = torch.from_numpy(ids[:n * context].astype(np.int64)).view(n, context)[::every]
    nll, load = 0.0, 0
    for part in chunks.split(batch):
        part = part.to(device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            logits, _, counts = model(part)
        nll += F.cross_entropy(logits[:, :-1].float().flatten(0, 1), part[:, 1:].flatten(), reduction="sum").item()
        load = load + counts.double().cpu()
    scored = chunks[:, 1:].flatten().numpy()
    cv = load.std(-1, unbiased=False) / load.mean(-1)
    return {"bits_per_byte": nll / math.log(2) / int(token_bytes[scored].sum()),
            "nats_per_token": nll / len(scored), "predictions": len(scored),
            "load_cv_per_layer": [round(v, 3) for v in cv.tolist()],
            "smallest_expert_share": (load.min(-1).values / load.sum(-1)).min().item()}


def token_bytes(tok):
    """Bytes of each token: a byte-level token spells one character per byte; specials count 0."""
    sizes = np.zeros(tok.get_vocab_size(), dtype=np.int64)
    for token, i in tok.get_vocab().items():
        sizes[i] = 0 if token in tokenizer.SPECIAL else len(token)
    return sizes


def encode_text(tok, text):
    return np.array(tok.encode("\n\n".join(corpus.reflow(text)), add_special_tokens=False).ids, np.uint16)
