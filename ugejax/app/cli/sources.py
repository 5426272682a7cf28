"""The source that a command line names."""

import argparse

from ugejax.data import Source


def source_from(arguments: argparse.Namespace, seed: int) -> Source:
    """The source and subset that the arguments name, in a form that holds from any folder."""
    return Source(
        name=arguments.source, data_dir=arguments.data_dir, n_train=arguments.n_train, n_test=arguments.n_test,
        seed=seed, image_size=arguments.image_size, skip_unreadable=arguments.skip_unreadable,
    ).absolute()  # fmt: skip
