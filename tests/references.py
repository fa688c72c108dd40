"""Layers in NumPy, one row at a time, for tests that derive a model's score from its formulas."""

import numpy as np


def weights(module):
    """A module's parameters and buffers in float64."""
    return {name: tensor.detach().double().numpy() for name, tensor in module.state_dict().items()}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def linear(module, x):
    own = weights(module)
    return own["weight"] @ x + own.get("bias", 0)


def layer_norm(module, x):
    own = weights(module)
    return (x - x.mean()) / np.sqrt(x.var() + module.eps) * own["weight"] + own["bias"]


def perceptron(module, x):
    """RecBole's MLPLayers in evaluation mode: linear and ReLU, layer by layer."""
    for layer in module.mlp_layers:
        if type(layer).__name__ == "Linear":
            x = np.maximum(linear(layer, x), 0)
    return x


def embedded(model, batch):
    """Field embeddings ``[B, F, d]`` as RecBole computes them."""
    return model.concat_embed_input_fields(batch).detach().double().numpy()


def randomise(model, seed=0, scale=0.5):
    """Draw every parameter anew: freshly initialised ones hide scales, biases and norms that are 1 or 0."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
