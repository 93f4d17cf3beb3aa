"""What all training has in common: the loop, the file that comes out, and its card. Needs torch."""

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from rich.progress import track as progress_bar
from torch import nn

OPSET = 17
CHECKPOINT_EVERY = 500


def fit(
    net: nn.Module,
    rows: list[torch.Tensor],
    loss_of: Callable[[Any, list[torch.Tensor]], torch.Tensor],
    args: argparse.Namespace,
    rate: float,
    size: int,
) -> None:
    """AdamW with a cosine from ``rate`` to zero; goes on from the checkpoint of the same run."""
    checkpoint = Path(f"{args.out}.checkpoint")
    data = args.views or f"{args.data} {args.sources}"
    run = f"{args.model} {data} {args.seed} {args.steps} {args.heads}"
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
    done = 0
    if checkpoint.is_file():
        stored = torch.load(checkpoint, weights_only=True)
        if stored["run"] == run:
            net.load_state_dict(stored["net"])
            optimizer.load_state_dict(stored["optimizer"])
            schedule.load_state_dict(stored["schedule"])
            done = stored["step"]
    net.train()
    for step in progress_bar(range(done, args.steps), "training", total=args.steps - done):
        # Rows of a step follow from the seed and the step alone, so a resumed run is the same run.
        chosen = np.random.default_rng([args.seed, step]).integers(len(rows[0]), size=size)
        index = torch.from_numpy(chosen)
        loss = loss_of(net, [column[index] for column in rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 10)
        optimizer.step()
        schedule.step()
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == args.steps:
            torch.save(
                {
                    "run": run,
                    "net": net.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                    "step": step + 1,
                },
                checkpoint,
            )
    net.eval()


def card(args: argparse.Namespace, data: str, figures: dict[str, float]) -> str:
    """What the model is and how it was made, in Markdown; ``data``: what it was trained on."""
    lines = [
        f"# {args.out.name}",
        "",
        f"`{args.model}` of leadsight's `prediction/`, seed {args.seed}, {args.steps} steps, "
        f"torch {torch.__version__}. Made by",
        "",
        "```",
        f"python -m prediction.train {shlex.join(args.words)}",
        "```",
        "",
        f"{data} of them, whole recordings, kept apart for these figures:",
        "",
        "| on the part kept apart | |",
        "| --- | ---: |",
        *[f"| {name} | {value:.4f} |" for name, value in figures.items()],
        "",
        *([args.licence, ""] if args.licence else []),
    ]
    return "\n".join(lines)


def onnx_graph(
    name: str,
    nodes: list[onnx.NodeProto],
    constants: dict[str, torch.Tensor],
    inputs: dict[str, list[Any]],
    output: list[Any],
) -> onnx.ModelProto:
    tensors = [
        numpy_helper.from_array(np.ascontiguousarray(v.detach().numpy(), np.float32), key)
        for key, v in constants.items()
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in inputs.items()],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, output)],
        tensors,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="leadsight"
    )
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def folded(norm: nn.BatchNorm1d) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch norm in use: scale and shift."""
    assert norm.running_var is not None and norm.running_mean is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale
