"""Images, two networks, a view and a term of one's own: python examples/own_parts.py (half a minute of two cores)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import ugejax

jax.config.update("jax_num_cpu_devices", 4)  # forced ones: a machine with several needs no such line


class Partner(nn.Module):  # a network in plain Flax
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(4)(nn.tanh(nn.Conv(8, (3, 3), strides=2)(x)).reshape(len(x), -1))


def stranger(weights, x):  # and one that is a function
    return jnp.tanh(x.reshape(len(x), -1) @ weights["hidden"]) @ weights["out"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Masked(ugejax.View):  # a secret view that shows grey in place of some pixels
    hidden: jax.Array  # 1 where nothing is seen, [H, W, 1]

    def apply(self, x):
        return x * (1 - self.hidden) + 0.5 * self.hidden


def roughness(context):  # a term of the loss
    return lambda x_u: jnp.square(jnp.diff(x_u - context.x, axis=1)).mean(axis=(1, 2, 3))


images = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3)).astype(np.uint8)
key, batch = jax.random.key(0), ugejax.Batch(images, np.arange(32) % 4, np.arange(32))
view = Masked(jax.random.bernoulli(key, 0.5, (16, 16, 1)).astype(float))
network = ugejax.AuthorizedNetwork(view, Partner(), Partner().init(key, jnp.zeros((1, 16, 16, 3))), "all")
recipe = ugejax.Recipe(epochs=2, batch_size=16)
optimizer, method = recipe.build_optimizer(32), ugejax.Method(transforms=(), batch_size=32, snapshots=2)
weights = {"hidden": 0.05 * jax.random.normal(key, (768, 16)), "out": jax.random.normal(key, (16, 4))}
trajectory = ugejax.trajectory(network, recipe, batch.x, batch.y, key, snapshots=2)
parts = (method, network, trajectory, [ugejax.networks.Functional(stranger)], [optimizer], jnp.array([1, 2, 3, 0]))
terms = [*ugejax.terms_of(method), ugejax.Term("roughness", 100.0, roughness)]
update = ugejax.make_update(*parts, terms=terms)
step = ugejax.compiled(update)  # jax.jit that keeps the view's secret an argument of the program
surrogates = (ugejax.initial_state({"params": weights}, optimizer),)
state = ugejax.NoiseState(jnp.int32(0), 0.03 * jax.random.normal(key, (4, 16, 16, 3)), surrogates)
course = [after := (state, {})] + [after := step(after[0], batch, key) for _ in range(20)]
print(f"roughness {course[1][1]['roughness']:.2e}, after 20 updates {after[1]['roughness']:.2e}")
by_key, _ = jax.jit(jax.vmap(update, in_axes=(None, None, 0)))(state, batch, jax.random.split(key, 3))
np.testing.assert_allclose(by_key.noise[2], step(state, batch, jax.random.split(key, 3)[2])[0].noise, atol=1e-6)
sharded = ugejax.make_update(*parts, terms=terms, axis_name="devices")
shards = jax.tree.map(lambda leaf: leaf.reshape(4, 8, *leaf.shape[1:]), batch)
on_four, _ = jax.pmap(sharded, axis_name="devices", in_axes=(None, 0, None))(state, shards, key)
np.testing.assert_allclose(on_four.noise[3], course[1][0].noise, atol=1e-6)
print("jit, vmap over keys and pmap over devices agree")
