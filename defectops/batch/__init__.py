"""Many micrographs in one go: what there is to do, what is done, and the run itself."""
