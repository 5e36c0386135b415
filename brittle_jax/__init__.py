"""One-class image anomaly detection with frozen teachers and distilled students, in JAX and Flax.

Mai, Davies and Griffin, *Brittle Features May Help Anomaly Detection* (2021), https://arxiv.org/abs/2104.10453.
"""

__version__ = "0.1.0"
