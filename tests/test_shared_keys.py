"""Several authorized networks: one release that all of them are blind to, or matched with, and what it costs."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cli_examples import TINY as TINY_COMMAND
from cli_examples import tree, write_toy
from flax import linen as nn

from ugejax.app.cli import main
from ugejax.app.cli.originals import load_originals
from ugejax.app.keys import build_authorized, read_key
from ugejax.app.release import read_release, salt_of
from ugejax.authorized import seen
from ugejax.authorized.network import AuthorizedNetwork
from ugejax.constraints.feasible import feasible
from ugejax.errors import UserError
from ugejax.networks import initial_variables
from ugejax.training import Batch, initial_state
from ugejax.uge import Method, NoiseState, make_update
from ugejax.views import IdentityView, content_view, dither_view, linear_view, share_of_budget, shared_blind_set

SHAPE, EPS = (16, 16, 1), 8 / 255


def test_every_quantiser_is_blind_to_what_is_shared_and_it_is_as_much_as_foretold():
    steps = (24, 16, 24)
    views = [dither_view(bytes([k]), SHAPE, salt=bytes(16), step=step, anchors=9) for k, step in enumerate(steps)]
    shared = shared_blind_set([views[0], IdentityView(), *views[1:]])
    x = jnp.round(jax.random.uniform(jax.random.key(9), (64, *SHAPE), minval=60, maxval=190)) / 255

    @jax.jit
    def protect(x):
        return [feasible(jnp.full(x.shape, EPS), x, blind, eps=EPS) for blind in (shared, views[0])]

    delta, alone = protect(x)
    see = jax.jit(lambda view, x: view.apply(x))
    before, after, after_alone = ([see(view, x + d) for view in views] for d in (0, delta, alone))
    for view, was, became in zip(views, before, after, strict=True):
        np.testing.assert_array_equal(became, was)
        assert not delta.reshape(64, -1)[:, view.anchors].any()
    assert all((became != was).any() for was, became in zip(before[1:], after_alone[1:], strict=True))
    free = np.ones(256, bool)
    free[np.concatenate([view.anchors for view in views])] = False
    assert delta.reshape(64, -1)[:, free].mean() / EPS == pytest.approx(share_of_budget(steps, 8), rel=0.02)


def test_share_of_budget_by_hand():
    assert share_of_budget([24], 8) == pytest.approx(np.mean([1 - j / 24 for j in range(1, 9)]))
    assert share_of_budget([2], 3) == pytest.approx((1 / 2 + 0 + 0) / 3)
    assert share_of_budget([4, 2], 1) == pytest.approx(3 / 4 * 1 / 2)
    assert share_of_budget([30000] * 8, 10000) == pytest.approx(3 / 9 * (1 - (2 / 3) ** 9), rel=1e-3)


def test_a_secret_subspace_is_not_shared():
    linear, content = linear_view(b"secret 0", SHAPE), content_view(b"secret 0", SHAPE)
    dither = dither_view(b"secret 0", SHAPE, salt=bytes(16))
    assert shared_blind_set([IdentityView(), linear]) is linear
    assert not shared_blind_set([IdentityView(), IdentityView()]).blind
    for views in ((linear, linear), (linear, content), (dither, content)):
        with pytest.raises(UserError, match="use keyed-dither for several keys"):
            shared_blind_set(views)


class Indifferent(nn.Module):
    """A surrogate that says the same of every image, so that no gradient comes from it."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return jnp.zeros((x.shape[0], 3)) + self.param("logits", nn.initializers.zeros, (3,))


class Linear(nn.Module):
    """Logits from some rows of the image."""

    rows: slice

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return nn.Dense(3)(x[:, self.rows].reshape(x.shape[0], -1))


def test_gradients_are_matched_for_all_networks_and_summed():
    x = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 1)).astype(np.uint8)
    y = jnp.arange(12) % 3
    method = Method(transforms=(), batch_size=12, undistillation=0.5)
    optimizer = optax.sgd(0.1)
    surrogate = initial_state(initial_variables(Indifferent(), jax.random.key(0), (8, 8, 1)), optimizer)
    networks = []
    for seed, rows in enumerate((slice(0, 4), slice(4, 8))):
        module = Linear(rows)
        variables = initial_variables(module, jax.random.key(seed), (8, 8, 1))
        network = AuthorizedNetwork(IdentityView(), module, variables, "all")
        networks.append((network, jax.tree.map(lambda leaf: leaf[None], variables)))
    blind = (AuthorizedNetwork(dither_view(b"secret 2", (8, 8, 1), salt=bytes(16), anchors=1), None, {}, "all"), None)

    def run(first, *others):
        update = make_update(method, *first, [Indifferent()], [optimizer], jnp.array([1, 2, 0]), others=others)
        noise = 0.03 * jax.random.normal(jax.random.key(3), (3, 8, 8, 1))
        state = NoiseState(jnp.zeros((), jnp.int32), noise, (surrogate,))
        state, losses = jax.jit(update)(state, Batch(x, y, jnp.arange(12)), jax.random.key(0))
        return state.noise != noise, losses

    moved, losses = zip(*(run(*some) for some in ((networks[0],), (networks[1],), networks)), strict=True)
    for name in ("gradient_matching", "undistillation"):
        assert float(losses[0][name] + losses[1][name]) == pytest.approx(float(losses[2][name]), rel=1e-5)
    # Each network sees its half and moves the noise there; together they move it everywhere.
    assert moved[0][:, :4].mean() > 0.9 > 0.1 > moved[0][:, 4:].mean()
    assert moved[2].mean() > 0.9
    # With a blind network in front the cells confine what is matched for the other.
    assert set(run(blind, networks[0])[1]) == set(losses[0])


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with toy.npz, its release R for the keys A (mlp) and B (cnn-nonorm), and the key C of another."""
    folder = tmp_path_factory.mktemp("made")
    write_toy(folder / "toy.npz")
    assert main(protect(folder, "R", "A", "B", more=["--network", "mlp,cnn-nonorm"])) == 0
    assert main(protect(folder, "S", "C", more=["--network", "mlp", "--seed", "1"])) == 0
    return folder


def protect(folder: Path, out: str, *keys: str, more: list[str]) -> list[str]:
    command = ["protect", str(folder / "toy.npz"), "--out", str(folder / out), *TINY_COMMAND[2:], "--seed", "0"]
    return [*command, *(word for key in keys for word in ("--key", str(folder / key))), *more]


def test_one_release_for_several_keys(made, capsys):
    keys = [read_key(made / name) for name in "AB"]
    card = json.loads((made / "R" / "card.json").read_text())
    assert card["key_fingerprint"] == keys[0].fingerprint
    assert [key["key_fingerprint"] for key in card["further_keys"]] == [keys[1].fingerprint]
    assert [card["authorized"]["network"], card["further_keys"][0]["authorized"]["network"]] == ["mlp", "cnn-nonorm"]
    assert keys[0].secret != keys[1].secret  # one seed, several secrets
    for name in "AB":
        assert main(["verify", str(made / "R"), "--key", str(made / name), "--originals", "card"]) == 0
        assert "differs by at most 0 grey levels" in capsys.readouterr().out
    assert main(["verify", str(made / "R"), "--key", str(made / "C")]) == 1
    assert f"the card names key '{keys[0].fingerprint}', '{keys[1].fingerprint}'" in capsys.readouterr().out
    assert main(["train", str(made / "R"), "--key", str(made / "B"), "--out", str(made / "T"), "--epochs", "1"]) == 0
    command = ["evaluate", str(made / "R"), "--key", str(made / "B"), "--out", str(made / "E"), "--epochs", "1"]
    assert main([*command, "--hackers", "mlp", "--cache", str(made / "cache")]) == 0
    assert json.loads((made / "E" / "results.json").read_text())["summary"]["authorized_retention"] in (1, None)


def test_a_key_is_added_by_protecting_again(made, capsys):
    """The first key goes on, with its textures; who has it alone learns from the new release as from the old."""
    more = ["--network", "mlp", "--seed", "1", "--reuse-key"]
    assert main(protect(made, "again", "C", "D", more=more)) == 0
    assert "the cells of 2 keys leave the perturbation 57% of its budget" in capsys.readouterr().out
    releases = [read_release(made / name) for name in ("S", "again")]
    network = build_authorized(read_key(made / "C"), made / "C")
    originals = load_originals(made / "S", releases[0], None, None).images
    for release in releases:
        view = network.of_release(salt_of(release.card)).view
        np.testing.assert_array_equal(seen(view, release.images), seen(view, originals))
    assert (releases[0].images != releases[1].images).any()


def test_a_trajectory_stays_in_its_own_key(tmp_path):
    """Snapshots of a network are as secret as its key, and the first key's holder gets the first key's folder."""
    write_toy(tmp_path / "toy.npz")
    more = ["--authorized", "keyed-dither,frozen-backbone", "--network", "mlp", "--surrogates", "mlp"]
    more += ["--perturbation-epochs", "1", "--snapshots", "1"]
    assert main(protect(tmp_path, "R", "A", "B", more=more)) == 0
    stages = [{path.name for path in (tmp_path / key / "runs").glob("*/*")} for key in "AB"]
    assert stages == [{"noise"}, {"trajectory"}]


MISTAKES = {
    "twice": (["--key", "new", "--key", "new"], "--key new: is named twice"),
    "inside": (["--key", "new", "--key", "new/er"], "--key new/er: must not lie in another key's folder"),
    "networks": (["--key", "new", "--key", "newer", "--network", "mlp,mlp,mlp"], "names 3 for 2 --key"),
    "two for one": (["--key", "new", "--network", "mlp,cnn"], "--network mlp,cnn: names 2 for 1 --key"),
    "forms": (["--key", "new", "--key", "newer", "--authorized", "keyed-linear"], "use keyed-dither for several keys"),
    "one unknown": (["--key", "new", "--key", "newer", "--authorized", "plain,plane"], "--authorized plane"),
    "other architecture": (["--key", "B", "--network", "mlp"], "--key B: has network cnn-nonorm, not mlp"),
    "generator": (["--key", "new", "--key", "newer", "--parametrisation", "generator"], "name one --key"),
    "order": (["--key", "B", "--key", "A", "--network", "cnn-nonorm,mlp", "--seed", "0"], "--key B: not made with"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_line_and_leaves_nothing(name, made, monkeypatch, capfd):
    arguments, says = MISTAKES[name]
    monkeypatch.chdir(made)
    before = tree(made)
    assert main(["protect", "toy.npz", "--out", "new-R", *TINY_COMMAND[4:], *arguments]) == 2
    error = capfd.readouterr().err
    assert says in error and error.count("\n") == 1
    assert tree(made) == before
