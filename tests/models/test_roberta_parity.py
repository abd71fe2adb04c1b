"""RoBERTa against transformers': features, logits and gradients of a random one.

Weights go to our side by a folder, as users' do, and so do torch's gradients.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from mtl_jax import models
from mtl_jax.models import weights

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")

CONFIG = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 20,
    "type_vocab_size": 1,
    "layer_norm_eps": 1e-5,
    "num_labels": 3,
}
LENGTHS = (18, 1, 7, 12)


def tokens():
    rng = np.random.default_rng(0)
    x = rng.integers(2, CONFIG["vocab_size"], (len(LENGTHS), max(LENGTHS)))
    x[:, 0] = 0
    for row, length in zip(x, LENGTHS, strict=True):
        row[length:] = 1
    return x


def seeds():
    """Make the weights of logits in the loss."""
    return np.random.default_rng(1).normal(size=(len(LENGTHS), 3)).astype("f4")


@pytest.fixture(scope="module")
def theirs():
    """Make the model with weights as after training, none 0 or 1."""
    torch.manual_seed(0)
    config = transformers.RobertaConfig(**CONFIG)
    model = transformers.RobertaForSequenceClassification(config).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.normal_(float("LayerNorm.weight" in name), 0.3)
    return model


@pytest.fixture(scope="module")
def wanted(theirs):
    """Return features, logits, and gradients by torch's names."""
    x = torch.tensor(tokens())
    outputs = theirs(x, attention_mask=x != 1, output_hidden_states=True)
    (outputs.logits * torch.tensor(seeds())).mean().backward()
    grads = {n: p.grad.contiguous().numpy() for n, p in theirs.named_parameters()}
    return outputs.hidden_states[-1][:, 0].detach(), outputs.logits.detach(), grads


def in_head(state):
    """Convert a head's parameters by torch's names to ours."""
    return {
        ours: {
            "kernel": state[f"classifier.{name}.weight"].T,
            "bias": state[f"classifier.{name}.bias"],
        }
        for ours, name in (("dense", "dense"), ("outputs", "out_proj"))
    }


def test_features_logits_and_gradients(theirs, wanted, tmp_path):
    theirs.save_pretrained(tmp_path)
    folder, x = str(tmp_path), tokens()
    trunk: Any = models.make("roberta", folder, dropout=0.0, head="classification")
    head: Any = trunk.head(3)
    like = jax.eval_shape(lambda: trunk.init(jax.random.key(0), x, train=False))
    state = {n: t.numpy() for n, t in theirs.state_dict().items()}
    params = weights.load(folder, trunk, like)["params"], in_head(state)

    def loss(params):
        shared, head_params = params
        z = trunk.apply({"params": shared}, x, train=False)
        y = head.apply({"params": head_params}, z, train=False)
        return jnp.mean(y * seeds()), (z, y)

    (_, outputs), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    features, logits, by_name = wanted
    np.testing.assert_allclose(outputs[0], features, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(outputs[1], logits, rtol=1e-5, atol=1e-5)

    safetensors.numpy.save_file(by_name, tmp_path / "model.safetensors")
    theirs_grads = weights.load(folder, trunk, like)["params"], in_head(by_name)
    biggest = max(float(np.abs(a).max()) for a in by_name.values())
    for (path, a), b in zip(
        jax.tree.leaves_with_path(grads), jax.tree.leaves(theirs_grads), strict=True
    ):
        name = jax.tree_util.keystr(path)
        # A bias of keys moves all scores of a query alike: its gradients are rounding.
        scale = biggest if "['key']['bias']" in name else np.abs(b).max()
        assert np.abs(a - b).max() < 1e-4 * scale, name
