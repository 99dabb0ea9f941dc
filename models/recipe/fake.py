"""Fake quantizers with a straight-through gradient: weights with a step a group (absmax, or learned as in LSQ: Esser et
al., Learned Step Size Quantization, 2020), activations INT8 per token."""
import torch
import torch.nn.functional as F
from torch import nn


class Replace(torch.autograd.Function):
    """The value of `q`, the gradient of `x`."""
    @staticmethod
    def forward(ctx, x, q):
        return q.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def straight_through(x, q):
    return Replace.apply(x, q.detach())


def fake_int8_tokens(x):
    """Dynamic per token, scale = absmax / 127."""
    y = x.float()
    scale = (y.detach().abs().amax(-1, keepdim=True) / 127).clamp_min(1e-12)
    return straight_through(y, torch.round(y / scale).clamp(-127, 127) * scale).to(x.dtype)


class WeightQuantizer(nn.Module):
    """Symmetric integers over the last axis (inputs) in groups of `group`; None: a whole row. The last group may be short.

    step "absmax": scale = absmax / top at every pass. step "lsq": the scale is learned. `factor` is the scale in units of
    the one it starts from, so that one learning rate suits tensors of any size; its gradient is LSQ's, 1/sqrt(n top) included.
    start: "absmax", "paper" (2 mean|w| / sqrt(top)) or "mse" (of 24 shares of absmax that of least squared error)."""
    def __init__(self, weight, bits, group, step="lsq", start="mse"):
        super().__init__()
        self.bits, self.group, self.top = bits, group or weight.shape[-1], 2 ** (bits - 1) - 1
        self.low = -self.top - (step == "lsq" and bits < 8)          # INT8 kernels want codes within ±127
        if step == "lsq":
            self.register_buffer("start", self.first_scale(weight.detach().float(), start))
            self.factor = nn.Parameter(torch.ones_like(self.start))
        else:
            self.factor = None

    def grouped(self, w):
        return F.pad(w, (0, -w.shape[-1] % self.group)).unflatten(-1, (-1, self.group))

    def absmax_scale(self, g):
        return (g.abs().amax(-1, keepdim=True) / self.top).clamp_min(1e-12)

    def first_scale(self, w, start):
        g = self.grouped(w)
        scale = self.absmax_scale(g)
        if start == "paper":
            return (2 * g.abs().mean(-1, keepdim=True) / self.top ** 0.5).clamp_min(1e-12)
        if start == "mse":
            widest, least = scale, None
            for share in torch.linspace(0.5, 1.1, 24).tolist():
                s = widest * share
                error = ((g / s).round().clamp(self.low, self.top) * s - g).square().sum(-1, keepdim=True)
                scale = s if least is None else torch.where(error < least, s, scale)
                least = error if least is None else torch.minimum(error, least)
        return scale

    def scale(self, g, expert=None):
        if self.factor is None:
            return self.absmax_scale(g.detach())
        factor, start = (self.factor, self.start) if expert is None else (self.factor[expert], self.start[expert])
        part = factor * (self.group * self.top) ** -0.5            # the value is the factor's, the gradient this one's
        return (part + (factor - part).detach()).clamp_min(1e-3) * start

    def forward(self, w, expert=None):
        """`w` in its quantized values; of a stack of experts, one matrix."""
        g = self.grouped((w if expert is None else w[expert]).float())
        scale = self.scale(g, expert)
        v = (g / scale).clamp(self.low, self.top)
        q = v.round() * scale if self.factor is None else straight_through(v, v.round()) * scale
        q = straight_through(g, q) if self.factor is None else q
        return q.flatten(-2)[..., :w.shape[-1]]

    @torch.no_grad()
    def codes(self, w):
        """(codes I8 like w, scales f32 (…, out, groups)): code times scale is what forward gives."""
        g = self.grouped(w.float())
        scale = self.scale(g)
        codes = (g / scale).clamp(self.low, self.top).round().to(torch.int8)
        return codes.flatten(-2)[..., :w.shape[-1]].contiguous(), scale.squeeze(-1).contiguous()
