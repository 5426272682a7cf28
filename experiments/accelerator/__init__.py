"""What only an accelerator can tell; `python -m experiments.accelerator --help`."""
