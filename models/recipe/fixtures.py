"""Expected values from transformers' own DeepseekV3ForCausalLM, float32 on the CPU."""
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from . import tokenizer

LENGTHS = (24, 100)
KEPT = 16                                  # the last positions keep logits and hidden states

TEXTS = [
    "", " ", "  ", "   x", "x   ", "\n", "\n\n", "\r\n", "a\r\nb\r\n\r\nc", "\t", "\t\tif x:\n\t\t\treturn 1\n", " \n  \n   ",
    "Hello", "Hello, world!", " hello", "HELLO WORLD", "CamelCaseWord and snake_case_word", "The quick brown fox jumps over the lazy dog.",
    "0", "12", "123", "1234", "1234567890", "3.14159", "1,000,000.00", "v1.2.3-rc4", "0x7fff_ffff", "2026-11-23 12:34:56", "٣٤٥", "½ ² ①",
    "don't can't I'll we've you're he'd I'm it's", "DON'T CAN'T I'LL", "it’s “quoted” ‘text’ — dash", "'s 't 're", "rock'n'roll",
    "foo /foo/ n. 1. A thing. 2. Another: see {bar}.", "--Shak. -- Im*prov\"a*bly, adv.", "[Colloq.] (Zool.) <tag attr=\"v\">", "a=b+c; // x != y && !z",
    "!!!???...", "...\n...\n", "$HOME/.config/*.txt", "https://example.org/a?b=c&d=%20#e", "user@example.org", "#include <stdio.h>\nint main(void) { return 0; }\n",
    "café naïve Zürich Ångström", "cafe\u0301", "Straße ẞ", "Привет, мир", "Καλημέρα κόσμε", "日本語のテキスト", "你好，世界", "안녕하세요", "שלום עולם", "مرحبا",
    "🙂", "👩‍👩‍👧‍👦 family", "🇩🇪🇫🇷", "\u00a0non\u00a0breaking\u2003em\u200bzero", "\ufeffbom", "\u0000nul\u0001", "tab\tand  two   three    four",
    "<|begin_of_text|>", "a<|end_of_text|>b", "<|pad|> <|unknown|>", "line one\nline two\n\n  indented\n", "x" * 70, "ab " * 20, "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "e\u0301\u0302\u0303",
]


def trace(model, ids):
    """One sequence through transformers: logits, nll, residual stream after each block, experts."""
    hidden, chosen, handles = {}, {}, []
    for i, block in enumerate(model.model.layers):
        def keep_hidden(_, __, out, i=i):
            hidden[i] = (out[0] if isinstance(out, tuple) else out)[0]
        handles.append(block.register_forward_hook(keep_hidden))
        if hasattr(block.mlp, "gate"):
            def keep_chosen(_, __, out, i=i):
                chosen[i] = out[2].sort(-1).values.to(torch.int32)
            handles.append(block.mlp.gate.register_forward_hook(keep_chosen))
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    for handle in handles:
        handle.remove()
    nll = F.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none")
    return logits, nll, torch.stack([hidden[i] for i in range(len(model.model.layers))]), chosen


def pick_sequences(held, tok):
    """Ordinary English: the first runs whose text is nearly all letters and spaces."""
    out, at = [], 0
    for n in LENGTHS:
        while True:
            ids = [int(t) for t in held[at:at + n]]
            text = tok.decode(ids, skip_special_tokens=False)
            at += 997
            if sum(c.isalpha() or c in " ,.;'" for c in text) > 0.985 * len(text):
                break
        out.append(ids)
    return out


def write(model_folder, held, out):
    from transformers import DeepseekV3ForCausalLM
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tok = tokenizer.load(model_folder)
    model = DeepseekV3ForCausalLM.from_pretrained(model_folder, dtype=torch.float32, attn_implementation="eager").eval()
    sequences, tensors = pick_sequences(np.asarray(held), tok), {}
    for i, ids in enumerate(sequences):
        logits, nll, hidden, chosen = trace(model, ids)
        positions = torch.arange(len(ids) - KEPT, len(ids), dtype=torch.int32)
        tensors[f"seq{i}.positions"] = positions
        tensors[f"seq{i}.logits"] = logits[-KEPT:].contiguous()
        tensors[f"seq{i}.nll"] = nll
        tensors[f"seq{i}.hidden"] = hidden[:, -KEPT:].contiguous()
        for layer, indices in chosen.items():
            tensors[f"seq{i}.layer{layer}.topk_indices"] = indices.contiguous()
    save_file(tensors, out / "expected.safetensors")
    (out / "tokens.json").write_text(json.dumps({"sequences": sequences}) + "\n")
    cases = [{"text": t, "ids": tok.encode(t, add_special_tokens=False).ids} for t in TEXTS]
    (out / "tokenizer_vectors.json").write_text(json.dumps(cases, indent=0) + "\n")
