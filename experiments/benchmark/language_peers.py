"""The torch side of the benchmark's W6: RoBERTa of `transformers`, one batch a task.

Import it only where torch and transformers are installed. Every way starts from the
same weights and goes the same number of steps as ours; attention is torch's fused one.
"""
# pyright: reportMissingImports=false

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from transformers import RobertaConfig, RobertaModel

WAYS = ("torch_sum", "torch_per_task")
"""The summed loss; and every task's gradient of the encoder, with their Gramian."""


class Tasks(nn.Module):
    """An encoder and a head a task, of two layers; `net(tokens, task)`: outputs."""

    def __init__(self, sizes: dict[str, int], widths: Sequence[int]) -> None:
        super().__init__()
        config = RobertaConfig(
            vocab_size=sizes["vocabulary"],
            hidden_size=sizes["width"],
            num_hidden_layers=sizes["layers"],
            num_attention_heads=sizes["heads"],
            intermediate_size=sizes["hidden"],
            max_position_embeddings=514,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=1,
        )
        self.encoder = RobertaModel(config, add_pooling_layer=False)
        size = sizes["width"]
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, width))
            for width in widths
        )

    def forward(self, tokens: Tensor, task: int) -> Tensor:
        """Return outputs ``[B, width]`` of the first token's state."""
        states = self.encoder(tokens, attention_mask=(tokens != 1).long())
        return self.heads[task](states.last_hidden_state[:, 0])


def step(
    way: str, sizes: dict[str, int], widths: Sequence[int], x: np.ndarray, y: np.ndarray
) -> Callable[[], Any]:
    """Make a step of AdamW on batches ``x [T, B, L]``, ``y [T, B]``."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = Tasks(sizes, widths).to(device)
    tokens = torch.from_numpy(x.astype(np.int64)).to(device)
    targets = torch.from_numpy(y).to(device)
    optimizer = torch.optim.AdamW(net.parameters(), 1e-5, fused=True)
    shared = list(net.encoder.parameters())

    def loss(task: int) -> Tensor:
        outputs, labels = net(tokens[task], task), targets[task]
        if widths[task] == 1:
            return mse_loss(outputs[:, 0], labels) / 2
        return cross_entropy(outputs, labels.long())

    def summed() -> Any:
        optimizer.zero_grad()
        total = torch.stack([loss(task) for task in range(len(widths))]).sum()
        total.backward()
        optimizer.step()
        return _ready(total)

    def per_task() -> Any:
        optimizer.zero_grad()
        rows = []
        for task in range(len(widths)):
            parameters = [*shared, *net.heads[task].parameters()]
            grads = torch.autograd.grad(loss(task), parameters)
            rows.append(torch.cat([g.ravel() for g in grads[: len(shared)]]))
            pairs = list(zip(parameters, grads, strict=True))
            for parameter, grad in pairs[len(shared) :]:
                parameter.grad = grad
        gram = torch.stack(rows) @ torch.stack(rows).T
        direction = torch.stack(rows).sum(dim=0)
        sizes_of = [parameter.numel() for parameter in shared]
        for parameter, part in zip(shared, direction.split(sizes_of), strict=True):
            parameter.grad = part.view_as(parameter)
        optimizer.step()
        return _ready(gram)

    return {"torch_sum": summed, "torch_per_task": per_task}[way]


def _ready(values: Tensor) -> float:
    return float(values.detach().sum())
