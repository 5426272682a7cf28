"""The counterpart: the same steps as one would first write them in PyTorch, eager, double backward, channels last."""

from pathlib import Path
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from experiments.bench.cases import NUM_CLASSES, Case
from experiments.bench.torch_networks import Classifier, to_flax, to_torch
from experiments.bench.worker import Answers, clocked, serve

EPS, STEP_SIZE, TEMPERATURE = 8 / 255, 0.1, 4.0  # the defaults of `Method`


def relative_l2(grads, targets) -> Any:
    """`ugejax.losses.relative_l2`, summed over the layers."""
    return sum((g_u - g).square().sum() / (g.square().sum() + 1e-12) for g_u, g in zip(grads, targets, strict=True))


def undistillation(logits_x, logits_u, y):
    """`ugejax.losses.undistillation`, the mean over the batch."""
    beyond = functional.one_hot(y, NUM_CLASSES) == 0
    q_x, q_u = (
        functional.log_softmax((logits / TEMPERATURE).masked_fill(~beyond, -torch.inf), dim=1).masked_fill(~beyond, 0)
        for logits in (logits_x, logits_u)
    )
    d = q_x - q_u
    return (beyond * q_x.exp() * (torch.expm1(-d) + d)).sum(dim=1).mean()


def optimizer_of(case: Case, parameters, steps: int):
    """The recipes of `ugejax.training.recipe` at their first step."""
    if case.name == "perturbation_update":
        optimizer = torch.optim.Adam(parameters, 1e-3)
        return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    if case.network in ("cnn", "mlp"):
        optimizer = torch.optim.AdamW(parameters, 2e-3, weight_decay=5e-3)
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.2)
    if case.network == "speedrun":  # the biases of the body learn 64 times as fast as the rest
        rate, decay, quick = 0.73, 1.33e-3, [p for p in parameters if p.ndim == 1 and len(p) != NUM_CLASSES]
        slow = [p for p in parameters if all(p is not other for other in quick)]
        groups = [{"params": quick, "lr": 64 * rate, "weight_decay": decay / 64}, {"params": slow}]
        optimizer = torch.optim.SGD(groups, rate, momentum=0.85, weight_decay=decay, nesterov=True)
        return optimizer, torch.optim.lr_scheduler.LinearLR(optimizer, 0.2, total_iters=round(0.23 * steps))
    optimizer = torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=5e-4)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def prepare(case: Case, folder: Path) -> Answers:
    """Load what our side starts from, leave where the first step ends, and be ready for more."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")  # what our side takes by default: TF32 where there is any
    before = dict(np.load(folder / "before.npz"))
    network = Classifier(case.network, case.size, NUM_CLASSES)
    weights = dict(to_torch(name, array) for name, array in before.items() if "/" in name)
    network.load_state_dict(weights, strict=False)  # but for the counters of batches
    network = network.to(device, memory_format=torch.channels_last)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer, schedule = optimizer_of(case, parameters, max(10, 1000 * case.repeats))
    images = torch.from_numpy(before["images"].transpose(0, 3, 1, 2)).to(device, memory_format=torch.channels_last)
    labels = torch.from_numpy(before["labels"]).long().to(device)
    noise = torch.from_numpy(before["noise"].transpose(0, 3, 1, 2)).to(device, memory_format=torch.channels_last)
    order, step = torch.arange(2 * case.batch, device=device), 0

    def batch():
        index = order[step % 2 * case.batch :][: case.batch]
        return images[index].float() / 255, labels[index]

    def train(x, y):
        network.train()
        optimizer.zero_grad()
        loss = functional.cross_entropy(network(x), y, label_smoothing=0.2 if case.network == "speedrun" else 0)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def feasible(x, y):
        lower, upper = (-x).clamp(min=-EPS), (1 - x).clamp(max=EPS)
        return noise[y].clamp(lower, upper)

    def train_step():
        loss = train(*batch())
        schedule.step()
        return loss

    def descend(x, y):
        nonlocal noise
        delta = feasible(x, y).requires_grad_()
        if case.loss == "gradient_matching":
            target = torch.autograd.grad(functional.cross_entropy(network(x), y), parameters)
            grads = torch.autograd.grad(functional.cross_entropy(network(x + delta), y), parameters, create_graph=True)
            loss = descended = relative_l2(grads, target)
        elif case.loss == "feature_distance":
            loss = descended = functional.cross_entropy(network(x + delta), y)
        else:
            with torch.no_grad():
                logits_x = network(x)
            loss = undistillation(logits_x, network(x + delta), y)
            descended = -loss
        (gradient,) = torch.autograd.grad(descended, delta)
        moved = torch.zeros_like(noise).index_add_(0, y, gradient).sign()
        noise = (noise - STEP_SIZE * EPS * moved).clamp(-2 * EPS, 2 * EPS)
        return loss.detach()

    def update():
        x, y = batch()
        network.eval()
        for _ in range(case.steps):
            loss = descend(x, y)
        if case.loss == "feature_distance":
            train(x + feasible(x, y), y)
        return loss

    run = train_step if case.name == "train_step" else update

    def timed() -> None:
        nonlocal step
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        step += 1

    result = {"loss": run().cpu().numpy()}
    step += 1
    if case.name == "perturbation_update":
        result["noise"] = noise.permute(0, 2, 3, 1).cpu().numpy()
    if case.name == "train_step" or case.loss == "feature_distance":
        after = network.state_dict()
        result |= {
            name: to_flax(after[to_torch(name, array)[0]])
            for name, array in before.items()
            if name.startswith("params/")
        }
    np.savez(folder / "torch.npz", **result)
    return {"facts": lambda: {"device": device, "threads": torch.get_num_threads()}, "seconds": lambda: clocked(timed)}


if __name__ == "__main__":
    serve(prepare)
