"""Stages of dvc.yaml: read a section of params.yaml, call a workflow, write the outputs."""

import os

# Before anything imports torch: threads that wait for each other sleep instead of spinning. Beside
# another busy process a spinning pair of threads trains many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
