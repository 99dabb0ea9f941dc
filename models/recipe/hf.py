"""QAT of any architecture that dsbench reads, through transformers' own classes: fake quantizers in place of the linears' weights
and of fused expert tensors, exported as compressed-tensors stores them, one weight an expert."""
import json
import re
import shutil
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from . import export, qat
from .fake import WeightQuantizer, fake_int8_tokens
from .train import CONTEXT

KEPT = re.compile(r"(^|\.)(gate|router|shared_expert_gate|lm_head)$")      # linears that stay full precision
NAMES = ("gate_proj", "up_proj", "down_proj")


def is_experts(module):
    return isinstance(getattr(module, "gate_up_proj", None), nn.Parameter) and module.gate_up_proj.dim() == 3


def rows(module, name):
    """A fused tensor as (experts, outputs, inputs)."""
    w = getattr(module, name)
    return w.mT if module.is_transposed else w


def experts_forward(self, x, index, weights):
    """transformers' eager loop over the experts that were chosen, each matrix and input through its quantizer."""
    out = torch.zeros_like(x, dtype=torch.float32)
    quantize = fake_int8_tokens if self.fake_on and self.fake_inputs else lambda t: t
    weight = lambda name, e: getattr(self, name + "_fake")(rows(self, name), e) if self.fake_on else rows(self, name)[e]
    bias = lambda name, e: getattr(self, name + "_bias")[e].to(x.dtype) if self.has_bias else None
    xq = quantize(x)
    for e in index.unique().tolist():
        if e >= self.num_experts:
            continue
        token, place = torch.where(index == e)
        h = self._apply_gate(F.linear(xq[token], weight("gate_up_proj", e).to(x.dtype), bias("gate_up_proj", e)))
        y = F.linear(quantize(h), weight("down_proj", e).to(h.dtype), bias("down_proj", e))
        out.index_add_(0, token, y.float() * weights[token, place, None].float())
    return out.to(x.dtype)


class QuantLinear(nn.Linear):
    """A linear that was there: install() changes its class."""
    def forward(self, x):
        if not self.fake_on:
            return super().forward(x)
        x = fake_int8_tokens(x) if self.fake_inputs else x
        w = self.fake(self.weight).to(x.dtype)
        return F.linear(x, w, self.bias if self.bias is None else self.bias.to(x.dtype))


def in_f32(module):
    """A router never sees autocast."""
    inner = module.forward

    def forward(x, *more, **named):
        with torch.autocast(x.device.type, enabled=False):
            return inner(x.float(), *more, **named)
    module.forward = forward


def install(model, make, inputs=True):
    """`make` gives the quantizer of a weight (…, out, in): all linears of blocks but routers and the shared expert's gate."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
    ALL_EXPERTS_FUNCTIONS.register("fake_quantized", experts_forward)
    for name, module in list(model.named_modules()):
        if ".layers." not in name:
            continue
        if is_experts(module):
            for part in ("gate_up_proj", "down_proj"):
                setattr(module, part + "_fake", make(rows(module, part)))
            module.fake_on, module.fake_inputs = True, inputs
            module.config._experts_implementation = "fake_quantized"
        elif KEPT.search(name):
            if not name.endswith("shared_expert_gate"):
                in_f32(module)
        elif type(module) is nn.Linear:
            module.fake, module.fake_on, module.fake_inputs = make(module.weight), True, inputs
            module.__class__ = QuantLinear
    return model


def quantize_inputs(model, on):
    for module in model.modules():
        if hasattr(module, "fake_inputs"):
            module.fake_inputs = on


# --- export -------------------------------------------------------------------------------------
def stored_name(name, mixtral):
    """Mixtral's checkpoints say block_sparse_moe where transformers says mlp."""
    return name.replace(".mlp.", ".block_sparse_moe.") if mixtral else name


def tensors(model, mixtral=False, dtype=torch.bfloat16):
    out, taken = {}, set()
    stacked = ("w1", "w3", "w2") if mixtral else NAMES
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear):
            out |= export.stored_codes(name, *module.fake.codes(module.weight), module.fake.bits)
            taken.add(name + ".weight")
        elif is_experts(module):
            for part in ("gate_up_proj", "down_proj"):
                fake = getattr(module, part + "_fake")
                codes, scale = fake.codes(rows(module, part))
                taken |= {f"{name}.{part}", f"{name}.{part}_fake.factor", f"{name}.{part}_fake.start"}
                for e in range(len(codes)):
                    if part == "down_proj":
                        pieces = [(stacked[2], slice(None))]
                    elif module.is_concatenated:
                        pieces = [(stacked[0], slice(0, codes.shape[1] // 2)), (stacked[1], slice(codes.shape[1] // 2, None))]
                    else:
                        pieces = [(stacked[0], slice(0, None, 2)), (stacked[1], slice(1, None, 2))]
                    for leaf, which in pieces:
                        out |= export.stored_codes(f"{stored_name(name, mixtral)}.{e}.{leaf}", codes[e, which], scale[e, which], fake.bits)
    for name, t in model.state_dict().items():
        if name in taken or ".fake." in name or (name == "lm_head.weight" and model.config.tie_word_embeddings):
            continue
        kept = stored_name(name, mixtral) if ".mlp." in name else name
        out[kept] = t.detach().to(torch.float32 if "correction" in name else dtype).cpu().contiguous().clone()
    return out


def write(model, source, folder, bits, group):
    """The source's config.json and tokenizer beside the codes."""
    source, folder = Path(source), Path(folder)
    config = json.loads((source / "config.json").read_text())
    ignore = ["lm_head", r"re:.*\.(gate|router|shared_expert_gate)$"]
    config["quantization_config"] = export.quantization_config(bits, group, ignore)
    stored = {"float16": torch.float16, "float32": torch.float32}.get(config.get("dtype") or config.get("torch_dtype"), torch.bfloat16)
    export.write(folder, tensors(model, "MixtralForCausalLM" in config["architectures"], stored), config)
    for file in list(source.glob("tokenizer*")) + list(source.glob("special_tokens_map.json")):
        if file.is_file():
            shutil.copy(file, folder / file.name)


# --- models -------------------------------------------------------------------------------------
def deepseek_v1(folder, raw, dtype):
    """transformers has no class of DeepSeek-V1: Llama's attention with V2's experts, as the original code has them."""
    import transformers as T
    from safetensors.torch import load_file
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe
    shared = {k: raw[k] for k in ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                                  "max_position_embeddings", "rms_norm_eps", "attention_bias", "tie_word_embeddings", "rope_theta", "rope_scaling") if k in raw}
    experts = {k: raw[k] for k in ("n_routed_experts", "num_experts_per_tok", "n_shared_experts", "moe_intermediate_size", "norm_topk_prob") if k in raw}
    if experts.get("norm_topk_prob"):
        raise SystemExit(f"{folder}/config.json: norm_topk_prob of DeepSeek-V1 is true; false is wanted")
    if "head_dim" in raw:
        shared["head_dim"] = raw["head_dim"]
    model = T.LlamaForCausalLM(T.LlamaConfig(**shared)).to(dtype)
    v2 = T.DeepseekV2Config(hidden_size=raw["hidden_size"], num_attention_heads=1, num_key_value_heads=1, n_group=1, topk_group=1, routed_scaling_factor=1.0, **experts)
    v2._experts_implementation = "eager"
    for i, layer in enumerate(model.model.layers):
        if i >= raw.get("first_k_dense_replace", 0) and i % raw.get("moe_layer_freq", 1) == 0:
            layer.mlp = DeepseekV2Moe(v2).to(dtype)
    stored = {}
    for file in sorted(Path(folder).glob("model*.safetensors")):
        stored |= load_file(file)
    for name, module in model.named_modules():
        if not is_experts(module):
            continue
        of = lambda leaf: torch.stack([stored.pop(f"{name}.{e}.{leaf}.weight") for e in range(module.num_experts)])
        stored[name + ".gate_up_proj"] = torch.cat([of("gate_proj"), of("up_proj")], 1)
        stored[name + ".down_proj"] = of("down_proj")
    missing, unknown = model.load_state_dict(stored, strict=False)
    missing = [n for n in missing if not (n == "lm_head.weight" and raw.get("tie_word_embeddings"))]
    if missing or unknown:
        raise SystemExit(f"{folder}: tensors missing {missing[:3]}, unknown {unknown[:3]}")
    return model


def load(folder, dtype=torch.float32):
    import transformers as T
    raw = json.loads((Path(folder) / "config.json").read_text())
    if raw["architectures"][0] == "DeepseekForCausalLM":
        return deepseek_v1(folder, raw, dtype)
    options = {"quantization_config": T.Mxfp4Config(dequantize=True)} if (raw.get("quantization_config") or {}).get("quant_method") == "mxfp4" else {}
    model, info = T.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, experts_implementation="eager", output_loading_info=True, **options)
    if info["missing_keys"]:
        raise SystemExit(f"{folder}: tensor {sorted(info['missing_keys'])[0]} is missing")
    return model


class Logits(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(input_ids=ids, use_cache=False).logits


def read_text(args):
    from transformers import AutoTokenizer
    tok = AutoTokenizer.from_pretrained(args.model)
    ids = np.array(tok(args.text.read_text(encoding="utf-8"), add_special_tokens=False)["input_ids"], np.int32)
    held = max(CONTEXT, min(len(ids) // 50, 32 * CONTEXT))
    if len(ids) < held + 4 * CONTEXT:
        raise SystemExit(f"{args.text}: {len(ids)} tokens; {5 * CONTEXT} at least are wanted")
    return ids[:-held], ids[-held:]


def train_quantized(args):
    if not (args.model and args.text and args.out):
        raise SystemExit("qat-of wants --model DIR, --text FILE and --out DIR")
    ids, held = read_text(args)
    teacher = load(args.model, torch.bfloat16).to(args.device).eval().requires_grad_(False)
    student = load(args.model).to(args.device).requires_grad_(False)
    install(student, lambda w: WeightQuantizer(w, args.bits, args.group, args.step, args.start))
    if args.checkpointing:
        student.gradient_checkpointing_enable()
        student.enable_input_require_grads()
        student.train()
    for name, p in student.named_parameters():
        what = "router" if re.search(r"\.(gate|router)\.", name) else "norms" if "norm" in name else "weights"
        p.requires_grad_(".layers." in name and (name.endswith("factor") or what not in args.frozen) or (name == "model.norm.weight" and "norms" not in args.frozen))
    named = [(n, p) for n, p in student.named_parameters() if p.requires_grad]
    args.compiled = False                              # experts are chosen as they come
    report = qat.run(Logits(student), Logits(teacher), {"step": [p for n, p in named if n.endswith("factor")], "rest": [p for n, p in named if not n.endswith("factor")]},
                     ids, held, args)
    write(student, args.model, args.out, args.bits, args.group)
    return report
