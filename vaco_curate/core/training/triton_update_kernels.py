"""What lies between the passes of an update, in Triton: gradients of ``losses.py``, and kernels around them.

In the words of ``core/fast/triton_kernels.py``, of whose parts these kernels are made. K is the number of
members. A launch takes networks of several stacks side by side.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vaco_curate.core.fast.triton_kernels import (
    SIZES,
    adam_factors,
    hidden_derivatives,
    hidden_layers,
    keep_layer,
    last_layer,
    network_gradient,
    products_of_rows,
    rows_of,
    tanh,
    times_few,
)


@triton.jit
def expectile_loss_gradient(error, expectile, ROWS: tl.constexpr):
    """As ``losses.expectile_loss_gradient``."""
    return tl.where(error > 0.0, expectile, 1.0 - expectile) * error * (-2.0 / ROWS)


@triton.jit
def bellman_target(reward, discount, terminated, next_value):
    """As ``losses.bellman_target``."""
    return reward + discount * tl.where(terminated, 0.0, next_value)


@triton.jit
def smaller(left, right):
    """The smaller of two, or NaN."""
    return tl.minimum(left, right, propagate_nan=tl.PropagateNan.ALL)


@triton.jit(do_not_specialize=SIZES)
def value_forward(batch, batch_member, batch_row, value, critic, target, h1, h2, out, members, observation,
                  action, ROWS: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, PRECISION: tl.constexpr,
                  EXACT: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, DEPTH: tl.constexpr,
                  INPUTS: tl.constexpr, WIDTH: tl.constexpr, OUTPUTS: tl.constexpr,
                  OUTS: tl.constexpr):  # fmt: skip
    """Outputs of 6 K networks: V and both critics, to be kept, then V of the next states and the targets."""
    network = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    learned = network < 3 * members
    m = network % (3 * members)
    x = batch + (m % members) * batch_member
    parameters, stacked, inputs = value, members, observation
    if m < members:
        if not learned:
            x += observation + action
    else:
        m -= members
        parameters, stacked, inputs = target, 2 * members, observation + action
        if learned:
            parameters = critic
    h = hidden_layers(x, batch_row, row, there, parameters, stacked, m, inputs, h1 + network * ROWS * H1,
                      h2 + network * ROWS * H2, learned, H1, H2, PRECISION, EXACT, BLOCK, CHUNK, DEPTH, INPUTS,
                      WIDTH)  # fmt: skip
    given = last_layer(h, parameters, stacked, m, inputs, 1, H1, H2, WIDTH, OUTPUTS, OUTS)
    tl.store(out + network * ROWS + row, tl.sum(given, axis=1), mask=there)


@triton.jit(do_not_specialize=SIZES)
def value_backward(batch, batch_member, batch_row, value, critic, h1, h2, out, d1, d2, d3, advantage, steps,
                   members, observation, action, expectile, discount, ROWS: tl.constexpr, H1: tl.constexpr,
                   H2: tl.constexpr, PRECISION: tl.constexpr, EXACT: tl.constexpr, BLOCK: tl.constexpr,
                   CHUNK: tl.constexpr, WIDTH: tl.constexpr, OUTS: tl.constexpr):  # fmt: skip
    """Derivatives of V's expectile loss and of the critics' TD errors, 3 K networks; counts the step."""
    network = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    member = network % members
    given = tl.load(out + network * ROWS + row, mask=there, other=0.0)
    m = network
    parameters, stacked, inputs = value, members, observation
    if network < members:
        first = tl.load(out + (4 * members + member) * ROWS + row, mask=there, other=0.0)
        second = tl.load(out + (5 * members + member) * ROWS + row, mask=there, other=0.0)
        error = smaller(first, second) - given
        tl.store(advantage + member * ROWS + row, error, mask=there)
        derivative = expectile_loss_gradient(error, expectile, ROWS)
    else:
        m -= members
        parameters, stacked, inputs = critic, 2 * members, observation + action
        ends = batch + member * batch_member + row * batch_row + 2 * observation + action
        reward = tl.load(ends, mask=there, other=0.0)
        terminated = tl.load(ends + 1, mask=there, other=0.0) > 0.5
        next_value = tl.load(out + (3 * members + member) * ROWS + row, mask=there, other=0.0)
        derivative = (given - bellman_target(reward, discount, terminated, next_value)) * (2.0 / ROWS)
    derivative = tl.where(there, derivative, 0.0)
    tl.store(d3 + network * ROWS + row, derivative, mask=there)
    upper = tl.where(tl.arange(0, OUTS)[None, :] == 0, derivative[:, None], 0.0)
    d = hidden_derivatives(upper, row, there, parameters, stacked, m, inputs, 1, h1 + network * ROWS * H1,
                           h2 + network * ROWS * H2, d2 + network * ROWS * H2, True, H1, H2, PRECISION, EXACT,
                           BLOCK, CHUNK, WIDTH, OUTS)  # fmt: skip
    keep_layer(d1 + network * ROWS * H1, d, row, there, H1, WIDTH)
    if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
        tl.store(steps, tl.load(steps) + 1.0)


@triton.jit(do_not_specialize=SIZES)
def value_descent(batch, batch_member, batch_row, h1, h2, d1, d2, d3, value, value_first, value_second, critic,
                  critic_first, critic_second, target, polyak, learning_rate, steps, members, observation,
                  action, ROWS: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, PRECISION: tl.constexpr,
                  EXACT: tl.constexpr, TILE: tl.constexpr, INPUT_TILE: tl.constexpr, OUTS: tl.constexpr,
                  DEPTH: tl.constexpr, BETA1: tl.constexpr, BETA2: tl.constexpr, EPSILON: tl.constexpr,
                  LOG_BETA1: tl.constexpr, LOG_BETA2: tl.constexpr):  # fmt: skip
    """A step of Adam for V and the critics, and of the target critics behind them."""
    network = tl.program_id(1).to(tl.int64)
    rate, root = adam_factors(learning_rate, steps, LOG_BETA1, LOG_BETA2)
    m = network
    parameters, first, second, following = value, value_first, value_second, value
    stacked, inputs, tau = members, observation, polyak * 0.0
    if network >= members:
        m -= members
        parameters, first, second, following = critic, critic_first, critic_second, target
        stacked, inputs, tau = 2 * members, observation + action, polyak
    network_gradient(tl.program_id(0), batch + (network % members) * batch_member, batch_row,
                     h1 + network * ROWS * H1, h2 + network * ROWS * H2, d1 + network * ROWS * H1,
                     d2 + network * ROWS * H2, d3 + network * ROWS, stacked, m, inputs, 1, parameters,
                     parameters, first, second, following, tau, rate, root, ROWS, H1, H2, PRECISION, EXACT,
                     TILE, INPUT_TILE, OUTS, DEPTH, True, BETA1, BETA2, EPSILON, False)  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def scorer_and_policy(features, features_member, features_row, states, states_member, states_row, scorer,
                      policy, h1, h2, score, predicted, members, observation, action, ROWS: tl.constexpr,
                      H1: tl.constexpr, H2: tl.constexpr, PRECISION: tl.constexpr, EXACT: tl.constexpr,
                      BLOCK: tl.constexpr, CHUNK: tl.constexpr, DEPTH: tl.constexpr, INPUTS: tl.constexpr,
                      WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, OUTS: tl.constexpr):  # fmt: skip
    """The actions of K policies, and the scores of K scorer networks."""
    network = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    m = network % members
    scores = network >= members
    x, x_row, parameters = features + m * features_member, features_row, scorer
    inputs, outputs = observation + action + 1, action * 0 + 1
    if not scores:
        x, x_row, parameters = states + m * states_member, states_row, policy
        inputs, outputs = observation, action
    h = hidden_layers(x, x_row, row, there, parameters, members, m, inputs, h1 + network * ROWS * H1,
                      h2 + network * ROWS * H2, True, H1, H2, PRECISION, EXACT, BLOCK, CHUNK, DEPTH, INPUTS,
                      WIDTH)  # fmt: skip
    given = last_layer(h, parameters, members, m, inputs, outputs, H1, H2, WIDTH, OUTPUTS, OUTS)
    o = tl.arange(0, OUTS)
    inside = there[:, None] & (o < outputs)[None, :]
    if scores:
        tl.store(score + m * ROWS + row[:, None] + o[None, :], given, mask=inside)
    else:
        tl.store(predicted + (m * ROWS + row[:, None]) * action + o[None, :], tanh(given), mask=inside)


@triton.jit(do_not_specialize=SIZES)
def cloning_backward(wanted, wanted_member, wanted_row, weight, policy, scorer, predicted, share, h1, h2, d1,
                     d2, d3, steps, members, observation, action, SMALLEST: tl.constexpr, SCORES: tl.constexpr,
                     ROWS: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, PRECISION: tl.constexpr,
                     EXACT: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, WIDTH: tl.constexpr,
                     OUTS: tl.constexpr):  # fmt: skip
    """Derivatives of the weighted cloning loss, K policies; counts the step.

    With SCORES, the weights are sigmoids, and K scorers follow the policies: derivatives by one unit of their
    scores, which are scaled when it is known what a score is worth.
    """
    network = tl.program_id(1).to(tl.int64)
    m = network % members
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    o = tl.arange(0, OUTS)
    parameters, inputs, outputs = policy, observation, action
    if network < members:
        of_row = tl.load(weight + m * ROWS + row, mask=there, other=0.0)
        if SCORES:
            of_row = tl.sigmoid(of_row)
        of_row = tl.maximum(of_row / ROWS, SMALLEST, propagate_nan=tl.PropagateNan.ALL)
        tl.store(share + m * ROWS + row, of_row, mask=there)
        guess = rows_of(predicted + m * ROWS * action, row, there, action, OUTS)
        inside = there[:, None] & (o < action)[None, :]
        done = tl.load(
            wanted + m * wanted_member + row[:, None] * wanted_row + o[None, :], mask=inside, other=0.0
        )
        upper = tl.where(inside, of_row[:, None] * 2.0 * (guess - done) * (1.0 - guess * guess), 0.0)
        tl.store(d3 + (m * ROWS + row[:, None]) * action + o[None, :], upper, mask=inside)
    else:
        parameters, inputs, outputs = scorer, observation + action + 1, action * 0 + 1
        upper = tl.where((o == 0)[None, :] & there[:, None], 1.0, 0.0)
    d = hidden_derivatives(upper, row, there, parameters, members, m, inputs, outputs, h1 + network * ROWS * H1,
                           h2 + network * ROWS * H2, d2 + network * ROWS * H2, True, H1, H2, PRECISION, EXACT,
                           BLOCK, CHUNK, WIDTH, OUTS)  # fmt: skip
    keep_layer(d1 + network * ROWS * H1, d, row, there, H1, WIDTH)
    if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
        tl.store(steps, tl.load(steps) + 1.0)


@triton.jit(do_not_specialize=SIZES)
def objective_by_action(critic, q_value, h1, h2, by_action, members, observation, action, ROWS: tl.constexpr,
                        H1: tl.constexpr, H2: tl.constexpr, PRECISION: tl.constexpr, EXACT: tl.constexpr,
                        BLOCK: tl.constexpr, CHUNK: tl.constexpr, WIDTH: tl.constexpr, OUTPUTS: tl.constexpr,
                        OUTS: tl.constexpr):  # fmt: skip
    """The gradient of J_pi by the policy's actions through each of 2 K critics."""
    m = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    member = m % members
    first = tl.load(q_value + member * ROWS + row, mask=there, other=0.0)
    second = tl.load(q_value + (members + member) * ROWS + row, mask=there, other=0.0)
    counts = (first <= second) == (m < members)  # as ``losses.policy_objective_gradient``
    upper = tl.where((tl.arange(0, OUTS)[None, :] == 0) & (counts & there)[:, None], -1.0 / ROWS, 0.0)
    inputs = observation + action
    d = hidden_derivatives(upper, row, there, critic, 2 * members, m, inputs, 1, h1 + m * ROWS * H1,
                           h2 + m * ROWS * H2, h2, False, H1, H2, PRECISION, EXACT, BLOCK, CHUNK, WIDTH,
                           OUTS)  # fmt: skip
    o = tl.arange(0, OUTS)
    found = times_few(d, critic + (m * inputs + observation) * H1, action, H1, WIDTH, OUTPUTS, OUTS)
    tl.store(by_action + (m * ROWS + row[:, None]) * action + o[None, :], found,
             mask=there[:, None] & (o < action)[None, :])  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def objective_backward(by_action, taken, taken_member, taken_row, policy, h1, h2, d1, d2, d3, members,
                       observation, action, ROWS: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr,
                       PRECISION: tl.constexpr, EXACT: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
                       WIDTH: tl.constexpr, OUTS: tl.constexpr):  # fmt: skip
    """Derivatives of J_pi, K policies; ``taken`` are their actions."""
    m = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    o = tl.arange(0, OUTS)
    inside = there[:, None] & (o < action)[None, :]
    a = tl.load(taken + m * taken_member + row[:, None] * taken_row + o[None, :], mask=inside, other=0.0)
    upper = rows_of(by_action + m * ROWS * action, row, there, action, OUTS)
    upper += rows_of(by_action + (members + m) * ROWS * action, row, there, action, OUTS)
    upper *= 1.0 - a * a
    tl.store(d3 + (m * ROWS + row[:, None]) * action + o[None, :], upper, mask=inside)
    d = hidden_derivatives(upper, row, there, policy, members, m, observation, action, h1 + m * ROWS * H1,
                           h2 + m * ROWS * H2, d2 + m * ROWS * H2, True, H1, H2, PRECISION, EXACT, BLOCK, CHUNK,
                           WIDTH, OUTS)  # fmt: skip
    keep_layer(d1 + m * ROWS * H1, d, row, there, H1, WIDTH)


@triton.jit(do_not_specialize=SIZES)
def alignments(states, states_member, states_row, direction, h1, h2, d1, d2, d3, share, score, alignment,
               by_score, steps, members, observation, action, ROWS: tl.constexpr, H1: tl.constexpr,
               H2: tl.constexpr, PRECISION: tl.constexpr, EXACT: tl.constexpr, BLOCK: tl.constexpr,
               CHUNK: tl.constexpr, DEPTH: tl.constexpr, INPUTS: tl.constexpr, WIDTH: tl.constexpr,
               OUTPUTS: tl.constexpr, OUTS: tl.constexpr):  # fmt: skip
    """Alignments of K policies, and the derivatives of the value alignment loss by scores; counts the step."""
    m = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    upper = rows_of(d3 + m * ROWS * action, row, there, action, OUTS)
    c = products_of_rows(states + m * states_member, states_row, row, there, h1 + m * ROWS * H1,
                         h2 + m * ROWS * H2, d1 + m * ROWS * H1, d2 + m * ROWS * H2, upper, direction, members,
                         m, observation, action, H1, H2, PRECISION, EXACT, BLOCK, CHUNK, DEPTH, INPUTS, WIDTH,
                         OUTPUTS, OUTS)  # fmt: skip
    at = m * ROWS + row
    c /= tl.load(share + at, mask=there, other=1.0)
    tl.store(alignment + at, c, mask=there)
    w = tl.sigmoid(tl.load(score + at, mask=there, other=0.0))
    tl.store(
        by_score + at, w * (1.0 - w) * c * (-1.0 / ROWS), mask=there
    )  # losses.value_alignment_loss_gradient
    if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
        tl.store(steps, tl.load(steps) + 1.0)
