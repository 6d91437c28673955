"""Which image, which label, which side: the data a network learns from."""
