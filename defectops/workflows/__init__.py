"""One use case a file, callable without a terminal and without DVC."""
