"""The benchmark of the compiled steps; `python -m experiments.bench --help`."""
