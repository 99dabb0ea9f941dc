"""Writes a model as transformers' DeepseekV3ForCausalLM reads it, and the QAT exports as
compressed-tensors writes them (int-quantized and pack-quantized)."""
import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import tokenizer
from .fake import WeightQuantizer
from .model import MoE, Router, Weight

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
    """(name without '.weight', tensor, module that holds it, expert or None) for all tensors but the router's bias."""
    for name, module in model.named_modules():
        hf = name if name == "lm_head" else "model." + name
        if isinstance(module, MoE):
            for proj in ("gate_proj", "up_proj", "down_proj"):
                for e in range(module.c.n_routed_experts):
                    yield f"{hf}.experts.{e}.{proj}", getattr(module, proj).weight[e], getattr(module, proj), e
        elif isinstance(module, Weight) and module.weight.dim() == 2:
            yield hf, module.weight, module, None
        elif not isinstance(module, (Weight, WeightQuantizer)) and isinstance(getattr(module, "weight", None), torch.Tensor):
            yield hf, module.weight, module, None


def router_biases(model):
    return {f"model.{name}.e_score_correction_bias": m.bias.float().cpu().contiguous()
            for name, m in model.named_modules() if isinstance(m, Router)}


def bf16_tensors(model):
    out = {f"{n}.weight": w.detach().bfloat16().cpu().contiguous() for n, w, _, _ in named_weights(model)}
    return out | router_biases(model)


def pack_int4(codes):
    """Eight codes per I32 along the input, each plus 8, the lowest bits first."""
    u = (codes.to(torch.int64) + 8).unflatten(-1, (-1, 8))
    word = (u << (4 * torch.arange(8))).sum(-1)
    return torch.where(word >= 2 ** 31, word - 2 ** 32, word).to(torch.int32)


def stored_codes(name, codes, scale, bits):
    """The tensors of one quantized weight (out, in) with scales (out, groups)."""
    codes, scale = codes.cpu(), scale.float().cpu().contiguous()
    if bits == 8:
        return {f"{name}.weight": codes.contiguous(), f"{name}.weight_scale": scale}
    padded = torch.nn.functional.pad(codes, (0, -codes.shape[-1] % 8))
    return {f"{name}.weight_packed": pack_int4(padded).contiguous(), f"{name}.weight_scale": scale,
            f"{name}.weight_shape": torch.tensor(codes.shape, dtype=torch.int64)}


def quantized_tensors(model):
    out, done = router_biases(model), {}
    for name, w, module, expert in named_weights(model):
        fake = getattr(module, "fake", None)
        if fake is None:
            out[f"{name}.weight"] = w.detach().bfloat16().cpu().contiguous()
            continue
        if module not in done:
            done = {module: fake.codes(module.weight)}
        codes, scale = done[module]
        out |= stored_codes(name, codes if expert is None else codes[expert], scale if expert is None else scale[expert], fake.bits)
    return out


def quantization_config(bits, group, ignore=IGNORE):
    def args(num_bits, strategy, group=None, dynamic=False):
        out = {"num_bits": num_bits, "type": "int", "symmetric": True, "group_size": group,
               "strategy": strategy, "dynamic": dynamic}
        return out if dynamic else out | {"observer": "minmax"}
    weights = args(bits, "group", group) if group else args(bits, "channel")
    layout = "int-quantized" if bits == 8 else "pack-quantized"
    return {"config_groups": {"group_0": {
                "format": layout, "input_activations": args(8, "token", dynamic=True),
                "output_activations": None, "targets": ["Linear"], "weights": weights}},
            "format": layout, "global_compression_ratio": None, "ignore": ignore,
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


def export_quantized(model, bits, group, folder):
    write(folder, quantized_tensors(model), hf_config(model.c) | {"quantization_config": quantization_config(bits, group)})


def load_into(model, tensors):
    """The inverse of bf16_tensors: fills a model from tensors by their exported names."""
    with torch.no_grad():
        for name, w, _, _ in named_weights(model):
            w.copy_(tensors[f"{name}.weight"].float())
        for name, module in model.named_modules():
            if isinstance(module, Router):
                module.bias.copy_(tensors[f"model.{name}.e_score_correction_bias"])
    return model
