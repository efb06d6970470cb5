"""The same LTU step and the same plain step in JAX and in PyTorch, on the same machine in the same run.

pip install torch                       (the package does not need it)
python experiments/benchmarks/peers.py --width 16
python experiments/benchmarks/peers.py --width 64 --rounds 3

Each form is a process of its own that waits for its turn, so that the libraries' threads do not disturb each other;
each round takes one step of every form. ``torch`` is eager PyTorch with channels-last images: ``double`` differentiates
through the inner step, ``func`` takes the Hessian product by ``torch.func.jvp`` of ``torch.func.grad``, as ours does.
``compile`` is the same under ``torch.compile``. The PyTorch step was written from the paper for this comparison:
ResNet-18, random-label support, three query sets, two attackers, the projection, SGD with momentum. Its BatchNorm keeps
no running statistics, which ours does: less work, not more.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

FORMS = ("jax plain", "torch plain", "compile plain", "jax ltu", "torch double", "torch func", "compile func")
CLASSES, SIDE, QUERIES = 10, 32, 3
INNER_RATE, TUNE_WEIGHT, RATE, MOMENTUM = 0.01, 0.03, 0.01, 0.9


def main() -> None:
    """Starts a process for every form, lets them take turns, prints seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--forms", default=",".join(FORMS))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.worker, args.width, args.batch)

    command = [sys.executable, __file__, "--width", str(args.width), "--batch", str(args.batch), "--worker"]
    workers = {name: _start([*command, name]) for name in args.forms.split(",")}
    versions = {name: _line(worker) for name, worker in workers.items()}  # printed after the first steps
    seconds: dict[str, list[float]] = {name: [] for name, line in versions.items() if not line.startswith("failed")}
    for _ in range(args.rounds):
        for name in seconds:
            seconds[name].append(float(_line(workers[name], "go\n")))
    print(f"ResNet-18, width {args.width}, batch {args.batch}, N = {QUERIES}, {args.rounds} rounds")
    for kind, ours in (("plain", "jax plain"), ("ltu", "jax ltu")):
        of_kind = [name for name in seconds if name.endswith("plain") == (kind == "plain")]
        print(f"\n{kind + ' step':16}{'s median':>10}{'min':>8}{'max':>8}{'ours / it':>11}{'min':>7}{'max':>7}")
        for name in of_kind:
            times = seconds[name]
            ratios = [o / t for o, t in zip(seconds.get(ours, times), times, strict=True)]
            print(
                f"{name:16}{statistics.median(times):10.3f}{min(times):8.3f}{max(times):8.3f}"
                f"{statistics.median(ratios):11.2f}{min(ratios):7.2f}{max(ratios):7.2f}   {versions[name]}"
            )
    for name, line in versions.items():
        if line.startswith("failed"):
            print(f"{name}: {line}")


def _start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(worker: subprocess.Popen, request: str = "") -> str:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write(request)
    worker.stdin.flush()
    return worker.stdout.readline().strip()


def work(form: str, width: int, batch: int) -> None:
    """The process of one form: takes a step for each line that it reads, and prints the seconds."""
    library, kind = form.split()
    try:
        step, version = (_jax if library == "jax" else _torch)(library, kind, width, batch)
        start = time.perf_counter()
        for _ in range(2):
            step()
        print(f"{version}, first two steps {time.perf_counter() - start:.1f} s", flush=True)
    except Exception as error:  # a form that a library cannot do is reported, not raised
        print(f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}", flush=True)
        return
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)


def _jax(library: str, kind: str, width: int, batch: int) -> tuple[Callable[[], Any], str]:
    del library
    import jax

    from experiments.benchmarks.step import build

    return build("plain" if kind == "plain" else "second", "resnet18", width, batch, QUERIES).once, jax.__version__


def _torch(library: str, kind: str, width: int, batch: int) -> tuple[Callable[[], Any], str]:
    import torch
    from torch import nn
    from torch.func import functional_call, grad, grad_and_value, jvp
    from torch.nn import functional

    torch.manual_seed(0)

    def norm(channels: int) -> nn.Module:
        return nn.BatchNorm2d(channels, track_running_stats=False)

    class Block(nn.Module):
        def __init__(self, before: int, channels: int, stride: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(before, channels, 3, stride, 1, bias=False), norm(channels)
            self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False), norm(channels)
            self.shortcut: nn.Module = nn.Identity()
            if stride != 1 or before != channels:
                self.shortcut = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), norm(channels))

        def forward(self, x: Any) -> Any:
            y = functional.relu(self.bn1(self.conv1(x)))
            return functional.relu(self.bn2(self.conv2(y)) + self.shortcut(x))

    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), norm(width), nn.ReLU()]
    channels = width
    for stage in range(4):
        for block in range(2):
            after = width * 2**stage
            layers.append(Block(channels, after, 2 if stage and not block else 1))
            channels = after
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
    model = nn.Sequential(*layers).train().to(memory_format=torch.channels_last)
    params = {name: p.detach() for name, p in model.named_parameters()}
    attackers = [nn.Sequential(nn.Linear(CLASSES, 64), nn.ReLU(), nn.Linear(64, 1)).requires_grad_(False) for _ in "ij"]

    def images(count: int) -> Any:
        return torch.rand(count, 3, SIDE, SIDE).to(memory_format=torch.channels_last)

    forget, labels = images(batch), torch.randint(CLASSES, (batch,))
    queries = [(images(batch), torch.randint(CLASSES, (batch,))) for _ in range(QUERIES)]
    velocity = {name: torch.zeros_like(p) for name, p in params.items()}

    def remember(params: Any, task: Any) -> Any:
        return functional.cross_entropy(functional_call(model, params, (task[0],)), task[1])

    def ask(params: Any, attacker: Any) -> Any:
        sure = functional_call(model, params, (forget,)).log_softmax(1).sort(1).values
        return functional.softplus(attacker(sure)).mean()  # BCE of "not a member"

    def by_double_backward(loss: Any, support: Any, tasks: Any, weight: float) -> Any:
        leaves = {name: p.requires_grad_() for name, p in params.items()}
        tune = loss(leaves, support)
        grads = torch.autograd.grad(tune, list(leaves.values()), create_graph=True)
        tuned = {n: p - INNER_RATE * g for (n, p), g in zip(leaves.items(), grads, strict=True)}
        total = weight * tune + sum(loss(tuned, task) for task in tasks)
        return dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))

    def by_jvp(loss: Any, support: Any, tasks: Any, weight: float) -> Any:
        gradient = grad(lambda p: loss(p, support))
        g = gradient(params)
        tuned = {n: p - INNER_RATE * g[n] for n, p in params.items()}
        v = grad(lambda p: sum(loss(p, task) for task in tasks))(tuned)
        along = jvp(gradient, (params,), (v,))[1]
        return {n: weight * g[n] + v[n] - INNER_RATE * along[n] for n in params}

    def move(gradient: Any) -> None:
        with torch.no_grad():
            for name, g in gradient.items():
                velocity[name].mul_(MOMENTUM).add_(g)
                params[name] = (params[name] - RATE * velocity[name]).detach()

    meta = by_double_backward if kind == "double" else by_jvp

    def both() -> Any:
        i, j = attackers
        g_r = meta(remember, (forget, torch.randint(CLASSES, (batch,))), queries, TUNE_WEIGHT)
        g_f = meta(ask, i, [j], 1.0)
        dot = sum((g_r[n] * g_f[n]).sum() for n in g_r)
        square = sum((g_r[n] ** 2).sum() for n in g_r)
        scale = torch.where(dot < 0, dot / square, torch.zeros(()))
        return {n: g_r[n] + g_f[n] - scale * g_r[n] for n in g_r}

    def plain() -> Any:
        return grad_and_value(lambda p: remember(p, (forget, labels)))(params)[0]

    def plain_eager() -> Any:  # autograd as everyone uses it, without the layers of torch.func
        leaves = {name: p.requires_grad_() for name, p in params.items()}
        grads = torch.autograd.grad(remember(leaves, (forget, labels)), list(leaves.values()))
        return dict(zip(leaves, grads, strict=True))

    gradient = both if kind != "plain" else plain if library == "compile" else plain_eager
    if library == "compile":
        gradient = torch.compile(gradient)
    return lambda: move(gradient()), f"torch {torch.__version__}, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    main()
