"""Experiments with lgnn_jax: the paper's networks, with and without locality guidance, on real images."""
