"""`ugejax train`: the partner's call, which needs the release and the key and nothing else."""

import argparse
import dataclasses
import functools
import hashlib
import json
import sys

import jax
import jax.numpy as jnp
from rich.console import Console

from ugejax.app.checkpoint import StepCheckpoints
from ugejax.app.cli.opening import open_key, open_network
from ugejax.app.cli.originals import load_test
from ugejax.app.cli.places import check_out
from ugejax.app.cli.progress import Reporter
from ugejax.app.keys import seal_of
from ugejax.app.lock import alone_in
from ugejax.app.release import read_release
from ugejax.app.results import write_results
from ugejax.authorized import seen
from ugejax.errors import UserError
from ugejax.training import accuracy, default_recipe, fit, initial_state, make_train_step, prepared
from ugejax.training.step import freeze


def run(arguments: argparse.Namespace) -> int:
    """Train the authorized network on a release; goes on where a run of the same settings was cut off."""
    console = Console(file=sys.stdout, soft_wrap=True)
    check_out(arguments.out, "accuracy")
    release, key = read_release(arguments.release), open_key(arguments.key, arguments.passphrase_file)
    network = open_network(key, arguments.key, release.card, arguments.release)
    test = load_test(arguments.release, release, arguments.test, arguments.data_dir) if arguments.test else None
    augment = ("crop-flip",) if arguments.augment else ()
    epochs = default_recipe(key.network, epochs=arguments.epochs or key.recipe.epochs, augment=augment).epochs
    recipe = dataclasses.replace(key.recipe, epochs=epochs, augment=augment).at_most(arguments.batch_size)
    settings = json.dumps([recipe.described, key.fingerprint, release.card["sha256"]], sort_keys=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    run = hashlib.sha256(settings.encode()).hexdigest()[:16]
    images = seen(network.view, release.images)
    with alone_in(arguments.out), Reporter(Console(file=sys.stderr)) as reporter:
        checkpoints = StepCheckpoints(arguments.out / f"checkpoints-{run}", seal=seal_of(key) / "train" / run)
        optimizer = freeze(recipe.build_optimizer(len(images)), network.trains)
        state = initial_state(prepared(network.module, network.variables, images), optimizer)
        if done := checkpoints.steps():
            state = checkpoints.restore(done[-1], state)

        def after_epoch(epoch, state, loss):
            checkpoints.save(epoch, state)
            reporter.stage("epoch", epoch, epochs, {"loss": loss})

        step = make_train_step(network.module, optimizer, recipe, train_mode=network.trains == "all")
        try:
            state = fit(
                step, state, jnp.asarray(images), jnp.asarray(release.labels), recipe, key.prng("training"),
                after_epoch=after_epoch,
            )  # fmt: skip
        except UserError as error:
            raise UserError(f"{error}; {checkpoints.path} holds what came before") from error
    scored = functools.partial(accuracy, network.module, state.variables, mirrored=recipe.mirrored_test)
    figures = {"training": scored(jnp.asarray(images), release.labels)}
    if test is not None:
        figures["test"] = scored(jnp.asarray(seen(network.view, test.images)), test.labels)
    results = {
        "schema": 1, "release": str(arguments.release), "network": key.network, "form": key.form, "epochs": epochs,
        "batch_size": recipe.batch_size, "n_train": len(images), "accuracy": figures, "backend": jax.default_backend(),
    }  # fmt: skip
    write_results(arguments.out / "results.json", results)
    console.print(
        " ".join([f"trained {epochs} epochs;", *(f"{name} accuracy {value:.3f}" for name, value in figures.items())])
    )
    return 0
