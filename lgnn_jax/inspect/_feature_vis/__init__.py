"""Feature visualisation: for every channel of a layer an image that activates it, many channels at once.

An image is the sigmoid of a spectrum with decorrelated colours; Adam raises a channel's response to random
crops, scales and rotations of it. This is Lucid's default method (:data:`LUCID`); :data:`SMALL` is the same
with transforms made for small images, and steps that forget sooner. The random transforms of a step are one
resampling into a canvas of fixed size, so that everything is compiled once. It differs from Lucid's in that

- it interpolates once, bilinearly (along the rows, then along the columns), where Lucid interpolates to
  scale and takes the nearest pixel to rotate;
- the corners that a rotation leaves are grey, as the padding is, and not black;
- where a step's image is smaller than the canvas the rest is grey, which convolutions see in place of their
  own padding, and the objective is over those places of the map whose middle is on the image;
- Adam's epsilon is far smaller, so that channels with tiny weights are raised as others are.

Source:
  Olah, Mordvintsev, Schubert, Feature Visualization, Distill 2017; https://github.com/tensorflow/lucid
  (``optvis``).
"""

from lgnn_jax.inspect._feature_vis._optimisation import FeatureVisualisation, visualise
from lgnn_jax.inspect._feature_vis._score import Beyond, mean_activations, share_beyond
from lgnn_jax.inspect._feature_vis._setting import LUCID, SMALL, Setting

__all__ = [
    "LUCID",
    "SMALL",
    "Beyond",
    "FeatureVisualisation",
    "Setting",
    "mean_activations",
    "share_beyond",
    "visualise",
]
