"""Quantization-aware training: fake quantizers with a straight-through gradient, and distillation
from the full-precision model (KL at temperature 2, mixed with cross-entropy)."""
import time

import torch
import torch.nn.functional as F

from .model import Linear, MoE, Model
from .train import CONTEXT, Muon, Runs, mean_nll, schedule, split_parameters

TEMPERATURE = 2.0


def straight_through(x, q):
    return x + (q - x).detach()


def fake_int8_rows(w):
    """Symmetric per output channel, scale = absmax / 127."""
    scale = (w.detach().abs().amax(-1, keepdim=True) / 127).clamp_min(1e-12)
    return straight_through(w, torch.round(w / scale).clamp(-127, 127) * scale)


def fake_int4_groups(w):
    """Symmetric groups of 32 along the input, scale = absmax / 7, codes within ±7."""
    g = w.unflatten(-1, (-1, 32))
    scale = (g.detach().abs().amax(-1, keepdim=True) / 7).clamp_min(1e-12)
    return straight_through(w, (torch.round(g / scale).clamp(-7, 7) * scale).flatten(-2))


def fake_int8_tokens(x):
    """Dynamic per token, scale = absmax / 127."""
    y = x.float()
    scale = (y.detach().abs().amax(-1, keepdim=True) / 127).clamp_min(1e-12)
    return straight_through(y, torch.round(y / scale).clamp(-127, 127) * scale).to(x.dtype)


def install(model, bits):
    """Every linear inside the blocks but the router; not embeddings, lm_head and norms."""
    fake = fake_int8_rows if bits == 8 else fake_int4_groups
    for name, module in model.named_modules():
        if isinstance(module, MoE):
            module.fake_x = fake_int8_tokens
            module.gate_proj.fake = module.up_proj.fake = module.down_proj.fake = fake
        elif isinstance(module, Linear) and name != "lm_head":
            module.fake, module.fake_x = fake, fake_int8_tokens
    return model


def distillation(student, teacher):
    def loss(ids, targets):
        with torch.no_grad():
            goal = F.log_softmax(teacher(ids)[0].float().flatten(0, 1) / TEMPERATURE, -1)
        logits = student(ids)[0].float().flatten(0, 1)
        kl = F.kl_div(F.log_softmax(logits / TEMPERATURE, -1), goal, reduction="batchmean", log_target=True)
        return 0.7 * kl * TEMPERATURE ** 2 + 0.3 * F.cross_entropy(logits, targets.flatten())
    return loss


def train_quantized(weights, config, bits, train_ids, held_ids, seconds, device="cpu", batch=16,
                    muon_lr=4e-4, adam_lr=3e-4, compiled=True, log=print):
    """Starts from the final model's state dict; returns the student (master weights in f32)."""
    teacher, student = Model(config).to(device), Model(config).to(device)
    teacher.load_state_dict(weights)
    student.load_state_dict(weights)
    teacher.eval().requires_grad_(False)
    install(student, bits)
    for kept in (student.embed_tokens, student.lm_head):      # the exports hold the BF16 model's own, bit for bit
        kept.weight.requires_grad_(False)
    start = mean_nll(student, held_ids, 16, device)
    matrices, rest = split_parameters(student)
    muon = Muon(matrices, decay=0.0, compiled=compiled)
    adam = torch.optim.AdamW([p for p in rest if p.requires_grad], lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0)
    data = Runs(train_ids, batch, device, seed=100 + bits)
    compute = distillation(student, teacher)
    compute = torch.compile(compute, dynamic=False) if compiled else compute
    step, began = 0, None
    while began is None or time.time() - began < seconds:
        share = 0.0 if began is None else (time.time() - began) / seconds
        rate = schedule(share, step, warm_up=20, decay_from=0.1)
        ids, targets = data.next()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = compute(ids, targets)
        loss.backward()
        for group in adam.param_groups:
            group["lr"] = adam_lr * rate
        muon.step(muon_lr * rate)
        adam.step()
        student.zero_grad(set_to_none=True)
        step += 1
        if step % 10 == 0 and device == "cuda":
            torch.cuda.synchronize()
        if began is None and (step >= (10 if device == "cuda" else 2)):
            began = time.time()                        # compilation does not count
    end = mean_nll(student, held_ids, 16, device)
    tokens = step * batch * CONTEXT
    log(f"int{bits}: {step} steps, {tokens / 1e6:.0f} M tokens; held-out {start:.4f} before, {end:.4f} after")
    return student, {"steps": step, "tokens": tokens, "held_before": start, "held_after": end}
