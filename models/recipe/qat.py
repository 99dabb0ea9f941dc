"""Quantization-aware training: fake quantizers in place of weights and inputs of linears, and distillation from the
full-precision model: KL at a temperature, cross-entropy for the rest."""
import time

import numpy as np
import torch
import torch.nn.functional as F

from .fake import WeightQuantizer, fake_int8_tokens
from .model import Linear, MoE, Model
from .train import CONTEXT, Muon, Runs, schedule, split_parameters


def install(model, make):
    """`make` gives the quantizer of a weight: every linear inside the blocks but the router; not embeddings, lm_head and norms."""
    for name, module in list(model.named_modules()):
        if isinstance(module, MoE):
            module.fake_x = fake_int8_tokens
            for part in (module.gate_proj, module.up_proj, module.down_proj):
                part.fake = make(part.weight)
        elif isinstance(module, Linear) and name != "lm_head":
            module.fake, module.fake_x = make(module.weight), fake_int8_tokens
    return model


def divergence(logits, goal, temperature=1.0):
    """Mean KL(goal || logits) a position, both (…, vocabulary)."""
    p = F.log_softmax(goal.float().flatten(0, -2) / temperature, -1)
    q = F.log_softmax(logits.float().flatten(0, -2) / temperature, -1)
    return F.kl_div(q, p, reduction="batchmean", log_target=True)


def distillation(student, teacher, temperature, kl_weight):
    """Both give logits of token ids. The loss is kl_weight · KL · T² + (1 − kl_weight) · cross-entropy."""
    def loss(ids, targets):
        with torch.no_grad():
            goal = teacher(ids)
        logits = student(ids)
        kl = divergence(logits, goal, temperature) * temperature ** 2
        if kl_weight == 1:
            return kl
        return kl_weight * kl + (1 - kl_weight) * F.cross_entropy(logits.float().flatten(0, -2), targets.flatten())
    return loss


@torch.no_grad()
def measure(student, teacher, ids, device, batch=16):
    """(KL to the teacher, nats per token) over whole chunks of held-out ids."""
    n = len(ids) // CONTEXT
    chunks = torch.from_numpy(ids[:n * CONTEXT].astype(np.int64)).view(n, CONTEXT)
    kl, nll = 0.0, 0.0
    for part in chunks.split(batch):
        part = part.to(device)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            goal, logits = teacher(part), student(part)
        kl += divergence(logits, goal).item() * len(part)
        nll += F.cross_entropy(logits[:, :-1].float().flatten(0, 1), part[:, 1:].flatten()).item() * len(part)
    return kl / n, nll / n


def run(student, teacher, parameters, train_ids, held_ids, args, muon_matrices=(), log=print):
    """The loop of any model. `parameters`: {"step": […], "rest": […]} for AdamW; args: see train.py qat --help."""
    device = args.device
    adam = torch.optim.AdamW([{"params": parameters["rest"], "rate": args.rate}, {"params": parameters["step"], "rate": args.step_rate}],
                             betas=(0.9, 0.98), eps=1e-12, weight_decay=0.0)
    muon = Muon(list(muon_matrices), decay=0.0, compiled=args.compiled) if muon_matrices else None
    data = Runs(train_ids, args.batch, device, seed=104)
    compute = distillation(student, teacher, args.temperature, args.kl_weight)
    compute = torch.compile(compute, dynamic=False) if args.compiled else compute
    before = measure(student, teacher, held_ids, device)
    log(f"held-out KL {before[0]:.4f}, {before[1]:.4f} nats a token before")
    step, began, total, count = 0, None, 0.0, 0
    while True:
        share = step / args.steps if args.steps else 0.0 if began is None else (time.time() - began) / args.seconds
        if share >= 1:
            break
        rate = schedule(share, step, warm_up=20, decay_from=0.1)
        ids, targets = data.next()
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = compute(ids, targets)
        loss.backward()
        for group in adam.param_groups:
            group["lr"] = group["rate"] * rate
        if muon:
            muon.step(args.muon_rate * rate)
        adam.step()
        student.zero_grad(set_to_none=True)
        step, total, count = step + 1, total + loss.detach(), count + 1
        if step % 10 == 0 and device == "cuda":
            torch.cuda.synchronize()
        if began is None and step >= (10 if device == "cuda" else 2):
            began = time.time()                        # compilation does not count
        if step % args.log_every == 0:
            log(f"step {step}: loss {(total / count).item():.4f}, rate {rate:.3f}", flush=True)
            total, count = 0.0, 0
    after = measure(student, teacher, held_ids, device)
    log(f"{step} steps, {step * args.batch * CONTEXT / 1e6:.1f} M tokens: held-out KL {before[0]:.4f} -> {after[0]:.4f}, {before[1]:.4f} -> {after[1]:.4f} nats a token", flush=True)
    return {"steps": step, "kl_before": before[0], "kl_after": after[0], "nll_before": before[1], "nll_after": after[1]}


class Logits(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(ids)[0]


def train_quantized(weights, config, train_ids, held_ids, args, log=print):
    """The built-in architecture, from a model's state dict; returns the student (master weights in f32)."""
    teacher, student = Model(config).to(args.device), Model(config).to(args.device)
    teacher.load_state_dict(weights)
    student.load_state_dict(weights)
    teacher.eval().requires_grad_(False)
    install(student, lambda w: WeightQuantizer(w, args.bits, args.group, args.step, args.start))
    for kept in (student.embed_tokens, student.lm_head):      # the exports hold the BF16 model's own, bit for bit
        kept.weight.requires_grad_(False)
    for name, p in student.named_parameters():
        if ("norm" in name and "norms" in args.frozen) or (".gate.weight" in name and "router" in args.frozen):
            p.requires_grad_(False)
    steps = [p for n, p in student.named_parameters() if n.endswith(".factor")]
    apart = {id(p) for p in steps}
    matrices, rest = split_parameters(student)
    matrices = [] if "weights" in args.frozen else [p for p in matrices if id(p) not in apart]
    rest = [p for p in rest if id(p) not in apart and p.requires_grad]
    report = run(Logits(student), Logits(teacher), {"step": steps, "rest": rest}, train_ids, held_ids, args, matrices, log)
    return student, report
