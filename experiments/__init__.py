"""Experiments: each module is one command; its docstring says what it shows, how long it takes and what to expect."""
