"""From labelled micrographs to trusted models, from trusted models to trusted numbers."""
