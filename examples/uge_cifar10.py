"""The whole method in one file: protect images, then train the partner and a stranger on the release.

    python examples/uge_cifar10.py --data-dir TFDS_FOLDER [--n-train 5000]
    python examples/uge_cifar10.py --source digits --eps 128/255

The digits take under a minute of two CPU cores and print 0.875 and 0.875 for the partner, 0.989 and 0.713 for the
stranger: stripes are made for photographs, and `ugejax demo` starts from misaligned means instead. CIFAR-10 by this
script was not measured.
"""

import argparse
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import ugejax
from ugejax.networks import build, initial_variables
from ugejax.views import default_step, dither_view


def make_config(shape: tuple[int, int, int], num_classes: int, eps: float, secret: bytes) -> ugejax.Config:
    """A quantiser with a secret dither before a small network, and stripes of which no pixel leaves its cell."""
    view = dither_view(secret, shape, salt=bytes(16), step=default_step("keyed-dither", eps))
    module = build("cnn", num_classes)
    network = ugejax.AuthorizedNetwork(view, module, initial_variables(module, jax.random.key(1), shape), "all")
    start = ugejax.class_stripes(secret, num_classes, shape, amplitude=eps, period=14)
    return ugejax.Config(ugejax.Method(eps=eps), (network,), ugejax.default_recipe("cnn"), start)


def learned(key: jax.Array, network: ugejax.AuthorizedNetwork, x, y, test, recipe: ugejax.Recipe) -> float:
    """Accuracy on clean test images of a network that trains on these images, each as its view shows them."""
    sees = partial(ugejax.seen, network.view)
    optimizer = recipe.build_optimizer(len(x))
    state = ugejax.initial_state(network.variables, optimizer)
    step = ugejax.make_train_step(network.module, optimizer, recipe)
    state = ugejax.fit(step, state, jnp.asarray(sees(np.asarray(x))), jnp.asarray(y), recipe, key)
    return ugejax.accuracy(network.module, state.variables, sees(test.images), test.labels)


def run(key: jax.Array, splits, eps: float, epochs: int | None) -> dict[str, float]:
    """Accuracies of the partner and of a stranger, on originals and on the release."""
    x, y, test = splits.train.images, splits.train.labels, splits.test
    config = make_config(x.shape[1:], len(splits.train.class_names), eps, secret=b"for a real release: os.urandom(16)")
    released, _ = ugejax.protect(key, x, y, config)
    (partner,), recipe = config.networks, ugejax.default_recipe("cnn", epochs=epochs)
    weights = initial_variables(partner.module, jax.random.key(2), x.shape[1:])
    stranger = ugejax.AuthorizedNetwork(ugejax.views.IdentityView(), partner.module, weights, "all")
    return {
        f"{who} on {what}": learned(key, network, images, y, test, recipe)
        for who, network in (("partner", partner), ("stranger", stranger))
        for what, images in (("originals", x), ("release", released))
    }


def main() -> None:
    """Read the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="cifar10")
    parser.add_argument("--data-dir")
    parser.add_argument("--n-train", type=int)
    parser.add_argument("--n-test", type=int)
    parser.add_argument("--eps", type=lambda text: float(Fraction(text)), default=8 / 255)
    parser.add_argument("--epochs", type=int)
    given = parser.parse_args()
    splits = ugejax.load(ugejax.Source(given.source, given.data_dir, given.n_train, given.n_test))
    for name, accuracy in run(jax.random.key(0), splits, given.eps, given.epochs).items():
        print(f"{name}: {accuracy:.3f}")


if __name__ == "__main__":
    main()
