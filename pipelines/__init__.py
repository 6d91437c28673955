"""Stages of dvc.yaml: read a section of params.yaml, call a workflow, write the outputs."""
