"""From a microscope file to a calibrated, conditioned micrograph."""
