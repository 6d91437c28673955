"""For each figure first its data, then its drawing; one page for the whole run."""
