"""Ports to the run tracker and the model registry, and the record of promotions."""
