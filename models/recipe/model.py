"""DeepSeek-V3 in plain PyTorch, shaped for speed at toy size.

All experts are computed for all tokens as one wide product and weighted by 0 where not selected:
with 16 experts of so small a width that costs less than sorting tokens. export.py maps the parameters to
the tensor names of transformers' DeepseekV3ForCausalLM, which computes the same function.
"""
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    vocab_size: int = 6144
    hidden_size: int = 128
    num_hidden_layers: int = 8
    first_k_dense_replace: int = 1
    num_attention_heads: int = 4
    q_lora_rank: int = 64
    kv_lora_rank: int = 64
    qk_nope_head_dim: int = 32
    qk_rope_head_dim: int = 16
    v_head_dim: int = 32
    intermediate_size: int = 384
    n_routed_experts: int = 16
    n_shared_experts: int = 1
    moe_intermediate_size: int = 64
    num_experts_per_tok: int = 4
    n_group: int = 4
    topk_group: int = 2
    routed_scaling_factor: float = 2.5
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 2048

    def as_dict(self):
        return asdict(self)


# The committed model is SIZES["wide"], trained on a GPU; "small" (5.2 M parameters) is what a CPU trains in two hours.
SIZES = {"small": Config(),
         "wide": Config(hidden_size=256, num_attention_heads=8, q_lora_rank=96, intermediate_size=704)}


class RoundBF16(torch.autograd.Function):
    """Rounds to bf16 and back; the gradient passes straight through."""
    @staticmethod
    def forward(ctx, w):
        return w.bfloat16().float()

    @staticmethod
    def backward(ctx, g):
        return g


class Weight(nn.Module):
    """A weight (…, out, in); the forward pass sees it rounded to bf16 (as exported) or fake-quantized."""
    def __init__(self, *shape, std=0.02):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(*shape) * std)
        self.fake = None               # qat.py installs a fake quantizer here

    def seen(self):
        return RoundBF16.apply(self.weight) if self.fake is None else self.fake(self.weight)


class Linear(Weight):
    """y = x Wᵀ; `fake_x` quantizes the activation per token during QAT."""
    fake_x = None

    def forward(self, x):
        if self.fake_x is not None:
            x = self.fake_x(x)
        return F.linear(x, self.seen().to(x.dtype))


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return (y * RoundBF16.apply(self.weight)).to(x.dtype)


def rope_table(length, dim, theta, device):
    freq = theta ** (-torch.arange(0, dim, 2, device=device).float() / dim)
    angle = torch.outer(torch.arange(length, device=device).float(), freq)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Interleaved pairs (x0, x1), (x2, x3), …; halves on the way out (the same order for q and k)."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1).to(x.dtype)


class Attention(nn.Module):
    def __init__(self, c, std_out):
        super().__init__()
        self.c = c
        h, qk = c.num_attention_heads, c.qk_nope_head_dim + c.qk_rope_head_dim
        self.q_a_proj = Linear(c.q_lora_rank, c.hidden_size, std=c.hidden_size ** -0.5)
        self.q_a_layernorm = RMSNorm(c.q_lora_rank, c.rms_norm_eps)
        self.q_b_proj = Linear(h * qk, c.q_lora_rank, std=c.q_lora_rank ** -0.5)
        self.kv_a_proj_with_mqa = Linear(c.kv_lora_rank + c.qk_rope_head_dim, c.hidden_size, std=c.hidden_size ** -0.5)
        self.kv_a_layernorm = RMSNorm(c.kv_lora_rank, c.rms_norm_eps)
        self.kv_b_proj = Linear(h * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank, std=c.kv_lora_rank ** -0.5)
        self.o_proj = Linear(c.hidden_size, h * c.v_head_dim, std=std_out)

    def forward(self, x, cos, sin):
        c, (b, t, _) = self.c, x.shape
        h, nope, rope = c.num_attention_heads, c.qk_nope_head_dim, c.qk_rope_head_dim
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))).view(b, t, h, nope + rope).transpose(1, 2)
        low, k_rope = self.kv_a_proj_with_mqa(x).split([c.kv_lora_rank, rope], -1)
        kv = self.kv_b_proj(self.kv_a_layernorm(low)).view(b, t, h, nope + c.v_head_dim).transpose(1, 2)
        k_nope, v = kv.split([nope, c.v_head_dim], -1)
        q_rope = rotate(q[..., nope:], cos, sin)
        k_rope = rotate(k_rope.unsqueeze(1), cos, sin).expand(-1, h, -1, -1)
        q = torch.cat((q[..., :nope], q_rope), -1)
        k = torch.cat((k_nope, k_rope), -1)
        v = F.pad(v, (0, nope + rope - c.v_head_dim))      # the fast kernels want one width for q, k and v
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)[..., :c.v_head_dim]
        return self.o_proj(y.transpose(1, 2).reshape(b, t, h * c.v_head_dim))


class MLP(nn.Module):
    def __init__(self, c, width, std_out):
        super().__init__()
        self.gate_proj = Linear(width, c.hidden_size, std=c.hidden_size ** -0.5)
        self.up_proj = Linear(width, c.hidden_size, std=c.hidden_size ** -0.5)
        self.down_proj = Linear(c.hidden_size, width, std=std_out)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


def rank(x):
    """How many are larger, the earlier one first among equals: a top-k that fuses into its kernel."""
    larger = x.unsqueeze(-2) > x.unsqueeze(-1)
    i = torch.arange(x.shape[-1], device=x.device)
    tied = (x.unsqueeze(-2) == x.unsqueeze(-1)) & (i.unsqueeze(0) < i.unsqueeze(1))
    return (larger | tied).sum(-1)


class Router(nn.Module):
    """Sigmoid scores in f32; two of four groups by their two best biased scores; then top 4."""
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.weight = nn.Parameter(torch.randn(c.n_routed_experts, c.hidden_size) * c.hidden_size ** -0.5)
        self.register_buffer("bias", torch.zeros(c.n_routed_experts))

    def forward(self, x):
        c = self.c
        w = RoundBF16.apply(self.weight)
        with torch.autocast(x.device.type, enabled=False):
            scores = torch.sigmoid(F.linear(x.float(), w))
        with torch.no_grad():
            biased = (scores + self.bias).unflatten(-1, (c.n_group, -1))
            group = (biased * (rank(biased) < 2)).sum(-1)
            masked = (biased * (rank(group) < c.topk_group).unsqueeze(-1)).flatten(-2)
            chosen = (rank(masked) < c.num_experts_per_tok).float()
        weights = scores * chosen
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20) * c.routed_scaling_factor
        return weights, scores, chosen


class MoE(nn.Module):
    def __init__(self, c, std_out):
        super().__init__()
        e, m, d = c.n_routed_experts, c.moe_intermediate_size, c.hidden_size
        self.c = c
        self.gate = Router(c)
        self.gate_proj = Weight(e, m, d, std=d ** -0.5)
        self.up_proj = Weight(e, m, d, std=d ** -0.5)
        self.down_proj = Weight(e, d, m, std=std_out)
        self.shared_experts = MLP(c, m * c.n_shared_experts, std_out)
        self.fake_x = None

    def forward(self, x):
        c, dtype = self.c, torch.bfloat16 if torch.is_autocast_enabled(x.device.type) else x.dtype
        e, m, d = c.n_routed_experts, c.moe_intermediate_size, c.hidden_size
        weights, scores, chosen = self.gate(x)
        xq = self.fake_x(x) if self.fake_x is not None else x
        g = F.linear(xq, self.gate_proj.seen().to(dtype).view(e * m, d))
        u = F.linear(xq, self.up_proj.seen().to(dtype).view(e * m, d))
        h = (F.silu(g) * u).unflatten(-1, (e, m))
        if self.fake_x is not None:
            h = self.fake_x(h)                       # per token and expert
        h = (h * weights.to(dtype).unsqueeze(-1)).flatten(-2)
        down = self.down_proj.seen().to(dtype).transpose(0, 1).reshape(d, e * m)
        # sequence-wise balance loss of DeepSeek-V3: f_i P_i, 1 when even
        load = chosen.mean(1) * (e / c.num_experts_per_tok)
        share = (scores / scores.sum(-1, keepdim=True)).mean(1)
        balance = (load * share).sum(-1).mean()
        return F.linear(h, down) + self.shared_experts(x), balance, chosen.sum((0, 1))


class Block(nn.Module):
    def __init__(self, c, index, dropout):
        super().__init__()
        std_out = c.hidden_size ** -0.5 / (2 * c.num_hidden_layers) ** 0.5
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c, std_out)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.is_moe = index >= c.first_k_dense_replace
        self.mlp = MoE(c, std_out) if self.is_moe else MLP(c, c.intermediate_size, std_out)
        self.dropout = dropout

    def forward(self, x, cos, sin):
        x = x + F.dropout(self.self_attn(self.input_layernorm(x), cos, sin), self.dropout, self.training)
        y = self.mlp(self.post_attention_layernorm(x))
        y, balance, load = y if self.is_moe else (y, None, None)
        return x + F.dropout(y, self.dropout, self.training), balance, load


class Model(nn.Module):
    def __init__(self, c, dropout=0.0):
        super().__init__()
        self.c = c
        self.embed_tokens = Weight(c.vocab_size, c.hidden_size, std=0.3)
        self.layers = nn.ModuleList(Block(c, i, dropout) for i in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.lm_head = Linear(c.vocab_size, c.hidden_size, std=0.02)

    def forward(self, ids):
        """Logits, the mean balance loss, and the tokens per expert (MoE layers, experts)."""
        cos, sin = rope_table(ids.shape[1], self.c.qk_rope_head_dim, self.c.rope_theta, ids.device)
        x = F.embedding(ids, self.embed_tokens.seen())
        balances, loads = [], []
        for block in self.layers:
            x, balance, load = block(x, cos, sin)
            if balance is not None:
                balances.append(balance)
                loads.append(load)
        return self.lm_head(self.norm(x)), torch.stack(balances).mean(), torch.stack(loads)


def parameter_count(model):
    return sum(p.numel() for p in model.parameters()) + sum(
        m.bias.numel() for m in model.modules() if isinstance(m, Router))
