"""Writes a model as transformers' DeepseekV3ForCausalLM reads it, and the QAT exports as
compressed-tensors writes them (int-quantized and pack-quantized)."""
import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import tokenizer
from .model import Linear, MoE, Router, Weight

IGNORE = ["lm_head", r"re:.*mlp\.gate$"]


def hf_config(c):
    return {
        "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
        "attention_bias": False, "attention_dropout": 0.0,
        "bos_token_id": tokenizer.BOS_ID, "eos_token_id": tokenizer.EOS_ID, "pad_token_id": tokenizer.PAD_ID,
        **c.as_dict(),
        "num_key_value_heads": c.num_attention_heads, "hidden_act": "silu", "initializer_range": 0.02,
        "moe_layer_freq": 1, "scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True,
        "num_nextn_predict_layers": 0, "rope_scaling": None, "rope_interleave": True,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True}


def named_weights(model):
    """(name without '.weight', tensor, quantized by QAT) for all tensors but the router's bias."""
    for name, module in model.named_modules():
        hf = name if name == "lm_head" else "model." + name
        if isinstance(module, MoE):
            for proj in ("gate_proj", "up_proj", "down_proj"):
                for e in range(module.c.n_routed_experts):
                    yield f"{hf}.experts.{e}.{proj}", getattr(module, proj).weight[e], True
        elif isinstance(module, Weight) and module.weight.dim() == 2:
            yield hf, module.weight, isinstance(module, Linear) and name != "lm_head"
        elif not isinstance(module, Weight) and isinstance(getattr(module, "weight", None), torch.Tensor):
            yield hf, module.weight, False


def router_biases(model):
    return {f"model.{name}.e_score_correction_bias": m.bias.float().cpu().contiguous()
            for name, m in model.named_modules() if isinstance(m, Router)}


def bf16_tensors(model):
    out = {f"{n}.weight": w.detach().bfloat16().cpu().contiguous() for n, w, _ in named_weights(model)}
    return out | router_biases(model)


def int8_codes(w):
    """Symmetric per output channel: codes (out, in) I8, scale (out, 1) F32."""
    scale = (w.float().abs().amax(-1, keepdim=True) / 127).clamp_min(1e-12)
    return torch.round(w.float() / scale).clamp(-127, 127).to(torch.int8), scale


def int4_codes(w, group=32):
    """Symmetric groups along the input: codes (out, in) I8 within ±7, scale (out, in/group) F32."""
    g = w.float().unflatten(-1, (-1, group))
    scale = (g.abs().amax(-1, keepdim=True) / 7).clamp_min(1e-12)
    return torch.round(g / scale).clamp(-7, 7).to(torch.int8).flatten(-2), scale.squeeze(-1)


def pack_int4(codes):
    """Eight codes per I32 along the input, each plus 8, the lowest bits first."""
    u = (codes.to(torch.int64) + 8).unflatten(-1, (-1, 8))
    word = (u << (4 * torch.arange(8))).sum(-1)
    return torch.where(word >= 2 ** 31, word - 2 ** 32, word).to(torch.int32)


def quantized_tensors(model, bits):
    out = router_biases(model)
    for name, w, quantized in named_weights(model):
        w = w.detach().cpu()
        if not quantized:
            out[f"{name}.weight"] = w.bfloat16().contiguous()
        elif bits == 8:
            out[f"{name}.weight"], out[f"{name}.weight_scale"] = int8_codes(w)
        else:
            codes, scale = int4_codes(w)
            out[f"{name}.weight_packed"] = pack_int4(codes).contiguous()
            out[f"{name}.weight_scale"] = scale.contiguous()
            out[f"{name}.weight_shape"] = torch.tensor(w.shape, dtype=torch.int64)
    return out


def quantization_config(bits):
    def args(num_bits, strategy, group=None, dynamic=False):
        out = {"num_bits": num_bits, "type": "int", "symmetric": True, "group_size": group,
               "strategy": strategy, "dynamic": dynamic}
        return out if dynamic else out | {"observer": "minmax"}
    weights = args(8, "channel") if bits == 8 else args(4, "group", 32)
    layout = "int-quantized" if bits == 8 else "pack-quantized"
    return {"config_groups": {"group_0": {
                "format": layout, "input_activations": args(8, "token", dynamic=True),
                "output_activations": None, "targets": ["Linear"], "weights": weights}},
            "format": layout, "global_compression_ratio": None, "ignore": IGNORE,
            "kv_cache_scheme": None, "moe_sparsity_config": None,
            "quant_method": "compressed-tensors", "quantization_status": "compressed"}


def write(folder, tensors, config):
    """Both files appear whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors.part", metadata={"format": "pt"})
    (folder / "model.safetensors.part").chmod(0o644)
    os.replace(folder / "model.safetensors.part", folder / "model.safetensors")
    (folder / "config.json.part").write_text(json.dumps(config, indent=2) + "\n")
    os.replace(folder / "config.json.part", folder / "config.json")


def export_bf16(model, folder):
    write(folder, bf16_tensors(model), hf_config(model.c))


def export_quantized(model, bits, folder):
    write(folder, quantized_tensors(model, bits), hf_config(model.c) | {"quantization_config": quantization_config(bits)})


def load_into(model, tensors):
    """The inverse of bf16_tensors: fills a model from tensors by their exported names."""
    with torch.no_grad():
        for name, w, _ in named_weights(model):
            w.copy_(tensors[f"{name}.weight"].float())
        for name, module in model.named_modules():
            if isinstance(module, Router):
                module.bias.copy_(tensors[f"model.{name}.e_score_correction_bias"])
    return model
