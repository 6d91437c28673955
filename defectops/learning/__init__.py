"""Networks, losses, training and inference."""
