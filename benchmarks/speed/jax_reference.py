"""Both updates in plain JAX, jitted whole: what a fast implementation elsewhere would reach.

The mathematics is that of ``tests/reference.py``; ``make bench`` checks that both give the
same numbers before it measures anything.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.custom_derivatives import linear_call

DISCOUNT, EXPECTILE, POLYAK = 0.99, 0.7, 0.005
RATE = 3e-4


LOWER = False
"""Whether factors of products between hidden layers are rounded to bfloat16, as by precision "medium"."""


def rounded(left, right):
    left, right = left.astype(jnp.bfloat16), right.astype(jnp.bfloat16)
    return jax.lax.dot(left, right, preferred_element_type=jnp.float32)


@jax.custom_jvp
def lower_product(left, right):
    return rounded(left, right)


@lower_product.defjvp
def lower_product_jvp(primals, tangents):
    """The derivatives' products are rounded too, forward and transposed."""
    (left, right), (d_left, d_right) = primals, tangents
    by_left = linear_call(lambda w, d: rounded(d, w), lambda w, c: rounded(c, w.T), right, d_left)
    by_right = linear_call(lambda x, d: rounded(x, d), lambda x, c: rounded(x.T, c), left, d_right)
    return rounded(left, right), by_left + by_right


def mlp(layers, inputs):
    for number, (weight, bias) in enumerate(layers):
        hidden = LOWER and 0 < number < len(layers) - 1
        inputs = (lower_product(inputs, weight) if hidden else inputs @ weight) + bias
        if number < len(layers) - 1:
            inputs = jax.nn.relu(inputs)
    return inputs


def critic(twins, observation, action):
    pair = jnp.concatenate([observation, action], axis=1)
    return jnp.stack([mlp(layers, pair)[:, 0] for layers in twins])


def policy(layers, observation):
    return jnp.tanh(mlp(layers, observation))


def scorer(layers, observation, action, q_input):
    features = jnp.concatenate([observation, action, q_input[:, None]], axis=1)
    return mlp(layers, features)[:, 0]


def adam_state(parameters):
    return jax.tree.map(jnp.zeros_like, parameters), jax.tree.map(jnp.zeros_like, parameters), jnp.zeros(())


def adam(parameters, gradient, state):
    first, second, steps = state
    steps = steps + 1
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
    size, root = RATE / (1 - 0.9**steps), jnp.sqrt(1 - 0.999**steps)
    moved = jax.tree.map(lambda p, m, v: p - size * m / (jnp.sqrt(v) / root + 1e-8), parameters, first, second)
    return moved, (first, second, steps)


def value_step(state, batch):
    value, twins, target, value_adam, critic_adam = state
    s, a, next_s, reward, terminated = batch
    bootstrap = jnp.where(terminated, 0.0, mlp(value, next_s)[:, 0])
    goal = reward + DISCOUNT * bootstrap
    q_value = critic(target, s, a).min(axis=0)

    def value_loss(layers):
        error = q_value - mlp(layers, s)[:, 0]
        return (jnp.where(error > 0, EXPECTILE, 1 - EXPECTILE) * error**2).mean()

    def critic_loss(twins):
        return ((critic(twins, s, a) - goal) ** 2).sum(axis=0).mean()

    loss_of_value, gradient = jax.value_and_grad(value_loss)(value)
    value, value_adam = adam(value, gradient, value_adam)
    loss_of_critic, gradient = jax.value_and_grad(critic_loss)(twins)
    twins, critic_adam = adam(twins, gradient, critic_adam)
    target = jax.tree.map(lambda old, new: (1 - POLYAK) * old + POLYAK * new, target, twins)
    return (value, twins, target, value_adam, critic_adam), jnp.stack([loss_of_value, loss_of_critic])


def bilevel_step(state, twins, batch):
    phi, alpha, phi_adam, alpha_adam = state
    s, a, q_input, noise = batch

    def errors(layers):
        return ((policy(layers, s) - a) ** 2).sum(axis=1)

    def weights(layers):
        return jax.nn.sigmoid(scorer(layers, s, a, q_input))

    weight = weights(alpha)
    cloning_loss, gradient = jax.value_and_grad(lambda layers: (weight * errors(layers)).mean())(phi)
    moved, phi_adam = adam(phi, gradient, phi_adam)

    def objective(layers):
        return -critic(twins, s, policy(layers, s + noise)).min(axis=0).mean()

    direction = jax.grad(objective)(moved)
    alignment = jax.jvp(errors, (phi,), (direction,))[1]

    def upper(layers):
        return -(weights(layers) * alignment).mean()

    upper_loss, gradient = jax.value_and_grad(upper)(alpha)
    alpha, alpha_adam = adam(alpha, gradient, alpha_adam)
    return (moved, alpha, phi_adam, alpha_adam), jnp.stack([cloning_loss, upper_loss])


def drawn(key, data, batch_size):
    rows = jax.random.randint(key, (batch_size,), 0, len(data[0]))
    return [column[rows] for column in data]


@partial(jax.jit, static_argnames=("updates", "batch_size"), donate_argnames=("state",))
def run_value(state, key, data, updates, batch_size):
    """``updates`` value updates in one compiled loop."""

    def step(carry, _):
        state, key = carry
        key, now = jax.random.split(key)
        state, losses = value_step(state, drawn(now, data, batch_size))
        return (state, key), losses

    return jax.lax.scan(step, (state, key), None, length=updates)


def of_members(run, members, updates, batch_size):
    """A run of several members at once by ``vmap``: of stacked states, keys and critics, on the same data.

    Args:
        run: ``run_value`` or ``run_bilevel``.
    """
    alone = partial(run, updates=updates, batch_size=batch_size)
    if members == 1:
        return alone

    @partial(jax.jit, donate_argnums=0)
    def side_by_side(states, keys, *rest):
        *critics, data = rest
        return jax.vmap(lambda *own: alone(*own, data))(states, keys, *critics)

    return side_by_side


@partial(jax.jit, static_argnames=("updates", "batch_size"), donate_argnames=("state",))
def run_bilevel(state, key, twins, data, updates, batch_size):
    """``updates`` bi-level updates in one compiled loop."""

    def step(carry, _):
        state, key = carry
        key, now, then = jax.random.split(key, 3)
        s, a, q_input = drawn(now, data, batch_size)
        noise = 0.1 * jax.random.normal(then, s.shape)
        state, losses = bilevel_step(state, twins, (s, a, q_input, noise))
        return (state, key), losses

    return jax.lax.scan(step, (state, key), None, length=updates)
