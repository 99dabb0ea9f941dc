"""The training loop: Muon for matrices, AdamW for the rest, driven by the clock.

A run may be cut into several calls: the state on disk holds everything, and the share of the
planned seconds already used sets the learning rate (warm-up, constant, linear to zero).
"""
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from .model import Config, Model, Router, parameter_count

CONTEXT = 512
BALANCE_WEIGHT = 1e-3
BIAS_SPEED = 1e-3
HELD_TOKENS = 64 * CONTEXT           # of the held-out documents, for the curve


# --- data ---------------------------------------------------------------------------------------
class Runs:
    """Plain runs of CONTEXT+1 tokens; each epoch is a new shift and a new order."""
    def __init__(self, ids, batch, device, seed):
        self.ids = torch.from_numpy(ids.astype(np.int32)).to(device)
        self.batch, self.device = batch, device
        self.gen = torch.Generator(device=device).manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.long, device=device)
        self.reach = torch.arange(CONTEXT + 1, device=device)

    def next(self):
        if len(self.order) < self.batch:
            n = (len(self.ids) - CONTEXT - 1) // CONTEXT - 1
            shift = torch.randint(0, CONTEXT, (1,), generator=self.gen, device=self.device)
            self.order = torch.randperm(n, generator=self.gen, device=self.device) * CONTEXT + shift
        start, self.order = self.order[:self.batch], self.order[self.batch:]
        run = self.ids[start.unsqueeze(1) + self.reach].long()
        return run[:, :-1].contiguous(), run[:, 1:].contiguous()


# --- optimizer ----------------------------------------------------------------------------------
def orthogonalize(g):
    """Newton-Schulz towards U Vᵀ for a batch (n, rows <= cols); Muon's coefficients."""
    x = g.bfloat16()
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.float()


class Muon:
    """Momentum, then orthogonalized updates of size 0.2 sqrt(longer side), all equal shapes at once."""
    def __init__(self, params, momentum=0.95, decay=0.1, compiled=True):
        self.params, self.momentum, self.decay = params, momentum, decay
        self.buffers = [torch.zeros_like(p) for p in params]
        self.step_fn = torch.compile(orthogonalize, dynamic=False) if compiled else orthogonalize
        self.groups = {}
        for i, p in enumerate(params):
            self.groups.setdefault(tuple(sorted(p.shape[-2:])), []).append(i)

    @torch.no_grad()
    def step(self, lr):
        grads = [p.grad for p in self.params]
        torch._foreach_lerp_(self.buffers, grads, 1 - self.momentum)
        ahead = torch._foreach_lerp(grads, self.buffers, self.momentum)       # Nesterov
        torch._foreach_mul_(self.params, 1 - lr * self.decay)
        for (rows, cols), members in self.groups.items():
            wide = [ahead[i] if ahead[i].shape[-2] == rows else ahead[i].mT for i in members]
            update = self.step_fn(torch.cat([w.reshape(-1, rows, cols) for w in wide]))
            at = 0
            for i in members:
                p = self.params[i]
                n = p.numel() // (rows * cols)
                u = update[at:at + n]
                at += n
                u = u if p.shape[-2] == rows else u.mT
                p.add_(u.reshape(p.shape), alpha=-lr * 0.2 * math.sqrt(cols))


def split_parameters(model):
    """(matrices for Muon, everything else)."""
    apart = {id(model.embed_tokens.weight), id(model.lm_head.weight)}
    apart |= {id(m.weight) for m in model.modules() if isinstance(m, Router)}
    matrices = [p for p in model.parameters() if p.dim() >= 2 and id(p) not in apart]
    taken = {id(p) for p in matrices}
    return matrices, [p for p in model.parameters() if id(p) not in taken]


def make_optimizers(model, adam_lr, compiled):
    matrices, rest = split_parameters(model)
    adam = torch.optim.AdamW(
        [{"params": [p for p in rest if p.dim() >= 2], "weight_decay": 0.02},
         {"params": [p for p in rest if p.dim() < 2], "weight_decay": 0.0}],
        lr=adam_lr, betas=(0.9, 0.98), eps=1e-10, fused=next(model.parameters()).is_cuda)
    return Muon(matrices, compiled=compiled), adam


def schedule(share, step, warm_up=200, decay_from=0.25):
    rate = min(1.0, (step + 1) / warm_up)
    return rate * (1.0 if share < decay_from else max(0.0, (1 - share) / (1 - decay_from)))


# --- evaluation during training -----------------------------------------------------------------
@torch.no_grad()
def mean_nll(model, ids, batch, device):
    """Nats per token over whole chunks of CONTEXT tokens (every prediction inside a chunk)."""
    n = len(ids) // CONTEXT
    chunks = torch.from_numpy(ids[:n * CONTEXT].astype(np.int64)).view(n, CONTEXT)
    total, count = 0.0, 0
    model.eval()
    for part in chunks.split(batch):
        part = part.to(device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            logits = model(part)[0]
        total += F.cross_entropy(logits[:, :-1].float().flatten(0, 1), part[:, 1:].flatten(), reduction="sum").item()
        count += part[:, 1:].numel()
    model.train()
    return total / count


# --- the loop -----------------------------------------------------------------------------------
def loss_function(model, balance_weight=BALANCE_WEIGHT):
    def loss(ids, targets):
        logits, balance, load = model(ids)
        ce = F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
        return ce + balance_weight * balance, ce, load
    return loss


def update_biases(routers, load, speed):
    """DeepSeek-V3's auxiliary-loss-free balance: a step up for the idle, down for the busy."""
    direction = torch.sign(load.mean(-1, keepdim=True) - load)
    for router, d in zip(routers, direction):
        router.bias.add_(d, alpha=speed)


def train(train_ids, held_ids, state_file, seconds, total_seconds, device="cuda", batch=16,
          muon_lr=2.5e-3, adam_lr=2.5e-3, dropout=0.0, config=None, compiled=True, log=print, max_steps=None):
    """Trains for `seconds` of the planned `total_seconds`; resumes from `state_file` if it exists."""
    began = time.time()
    torch.manual_seed(1)
    config = config or Config()
    model = Model(config, dropout).to(device)
    routers = [m for m in model.modules() if isinstance(m, Router)]
    muon, adam = make_optimizers(model, adam_lr, compiled)
    step, used, history = 0, 0.0, []
    if Path(state_file).exists():
        state = torch.load(state_file, map_location=device, weights_only=False)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["adam"])
        for b, saved in zip(muon.buffers, state["muon"]):
            b.copy_(saved)
        step, used, history = state["step"], state["used"], state["history"]
    log(f"{parameter_count(model)} parameters, {len(train_ids)} tokens, from step {step}, {used:.0f} s used")
    data = Runs(train_ids, batch, device, seed=step + 1)
    compute = loss_function(model)
    if compiled:
        compute = torch.compile(compute, dynamic=False)

    def save():
        torch.save({"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.buffers, "step": step,
                    "used": used, "history": history, "config": config.as_dict()}, state_file)

    clock, ce_sum, ce_count, first = time.time(), 0.0, 0, step
    while True:
        share = used / total_seconds
        rate = schedule(share, step)
        ids, targets = data.next()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss, ce, load = compute(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for g in adam.param_groups for p in g["params"]], 1.0)
        for group in adam.param_groups:
            group["lr"] = adam_lr * rate
        muon.step(muon_lr * rate)
        adam.step()
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            update_biases(routers, load, BIAS_SPEED * (1 if share < 0.6 else max(0.0, (0.95 - share) / 0.35)))
        step += 1
        ce_sum, ce_count = ce_sum + ce.detach(), ce_count + 1
        if step % 10 == 0 or max_steps:
            if device == "cuda":
                torch.cuda.synchronize()
            now = time.time()
            if step - first > 10 or max_steps:          # compilation is not training time
                used += now - clock
            clock = now
        finished = used >= total_seconds or time.time() - began > seconds or (max_steps and step - first >= max_steps)
        if step % 250 == 0 or finished:
            held = mean_nll(model, held_ids[:HELD_TOKENS], 16, device)
            train_ce = (ce_sum / ce_count).item()
            cv = (load.std(-1, unbiased=False) / load.mean(-1)).max().item()
            history.append((step, step * batch * CONTEXT, train_ce, held))
            log(f"step {step} {step * batch * CONTEXT / 1e6:.0f} M tokens, {used:.0f} s, rate {rate:.3f}: "
                f"train {train_ce:.4f} held-out {held:.4f} worst load cv {cv:.2f}")
            ce_sum, ce_count, clock = 0.0, 0, time.time()
            if not math.isfinite(held):
                raise SystemExit("the loss is not finite")
            save()
        if finished:
            break
    return model, history, used >= total_seconds
