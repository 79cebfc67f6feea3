"""Passes through stacks of networks with two hidden layers, in Triton: parts, and the kernels of one pass.

In all of them ``m`` is a network of a stack of ``members``, ``inputs`` and ``outputs`` its widths, H1 and H2
those of the hidden layers, ``parameters`` the stack's vector as ``StackedMLP`` lays it out. ``x`` holds a
network's inputs, ``h1`` and ``h2`` the hidden layers after ReLU, ``d1`` and ``d2`` the derivatives by them
before it, each (ROWS, columns), and ``d3`` those by the outputs, (ROWS, outputs). ROWS is the number of
examples; BLOCK of them are a program's. INPUTS and OUTPUTS are the most of a launch, OUTS the power of two
above OUTPUTS. PRECISION is that of products between hidden layers, EXACT that of all others.
"""

from __future__ import annotations

import triton
import triton.language as tl

TABLES = ("x", "out", "batch", "features", "states", "wanted", "taken")
SIZES = (
    *("members", "inputs", "outputs", "observation", "action"),
    "x_members",
    *(f"{name}_{stride}" for name in TABLES for stride in ("member", "row")),
)
"""What may be 1, which Triton would make a constant and so another type in a branch."""


@triton.jit
def first_bias(members, m, inputs, H1: tl.constexpr):
    """Where in the vector a network's biases of the first layer begin; its weights: m * inputs * H1."""
    return members * inputs * H1 + m * H1


@triton.jit
def second_weight(members, m, inputs, H1: tl.constexpr, H2: tl.constexpr):
    """Where the weights between the hidden layers begin, (H1, H2)."""
    return members * (inputs + 1) * H1 + m * H1 * H2


@triton.jit
def second_bias(members, m, inputs, H1: tl.constexpr, H2: tl.constexpr):
    """Where the biases of the second layer begin."""
    return members * (inputs + 1 + H2) * H1 + m * H2


@triton.jit
def last_weight(members, m, inputs, outputs, H1: tl.constexpr, H2: tl.constexpr):
    """Where the weights of the last layer begin, (outputs, H2)."""
    return members * ((inputs + 1) * H1 + (H1 + 1) * H2) + m * outputs * H2


@triton.jit
def last_bias(members, m, inputs, outputs, H1: tl.constexpr, H2: tl.constexpr):
    """Where the biases of the last layer begin."""
    return members * ((inputs + 1) * H1 + (H1 + 1 + outputs) * H2) + m * outputs


@triton.jit
def rows_of(table, row, there, columns, OUTS: tl.constexpr):
    """Some rows of a table of a few columns, (BLOCK, OUTS)."""
    o = tl.arange(0, OUTS)
    return tl.load(table + row[:, None] * columns + o[None, :], mask=there[:, None] & (o < columns)[None, :],
                   other=0.0)  # fmt: skip


@triton.jit
def tanh(x):
    """Hyperbolic tangent."""
    return 2.0 * tl.sigmoid(2.0 * x) - 1.0


@triton.jit
def first_layer(x, x_row, row, there, weight, column, inputs, H1: tl.constexpr, EXACT: tl.constexpr,
                BLOCK: tl.constexpr, CHUNK: tl.constexpr, DEPTH: tl.constexpr,
                INPUTS: tl.constexpr):  # fmt: skip
    """Rows of x times some columns of the first layer's weights."""
    total = tl.zeros((BLOCK, CHUNK), tl.float32)
    for begin in range(0, INPUTS, DEPTH):
        d = begin + tl.arange(0, DEPTH)
        some = tl.load(x + row[:, None] * x_row + d[None, :], mask=there[:, None] & (d < inputs)[None, :],
                       other=0.0)  # fmt: skip
        w = tl.load(weight + d[:, None] * H1 + column[None, :], mask=(d < inputs)[:, None] & (column < H1)[None,
                    :], other=0.0)  # fmt: skip
        total = tl.dot(some, w, total, input_precision=EXACT)
    return total


@triton.jit
def hidden_layers(x, x_row, row, there, parameters, members, m, inputs, h1, h2, keep, H1: tl.constexpr,
                  H2: tl.constexpr, PRECISION: tl.constexpr, EXACT: tl.constexpr, BLOCK: tl.constexpr,
                  CHUNK: tl.constexpr, DEPTH: tl.constexpr, INPUTS: tl.constexpr,
                  WIDTH: tl.constexpr):  # fmt: skip
    """The second hidden layer of a block of rows, (BLOCK, WIDTH); both go to memory if they are to be kept."""
    wide = tl.arange(0, WIDTH)
    w1, b1 = parameters + m * inputs * H1, parameters + first_bias(members, m, inputs, H1)
    w2 = parameters + second_weight(members, m, inputs, H1, H2)
    total = tl.zeros((BLOCK, WIDTH), tl.float32)
    for begin in range(0, H1, CHUNK):
        c = begin + tl.arange(0, CHUNK)
        h = first_layer(x, x_row, row, there, w1, c, inputs, H1, EXACT, BLOCK, CHUNK, DEPTH, INPUTS)
        h += tl.load(b1 + c, mask=c < H1, other=0.0)[None, :]
        h = tl.maximum(h, 0.0, propagate_nan=tl.PropagateNan.ALL)
        tl.store(h1 + row[:, None] * H1 + c[None, :], h, mask=keep & there[:, None] & (c < H1)[None, :])
        w = tl.load(w2 + c[:, None] * H2 + wide[None, :], mask=(c < H1)[:, None] & (wide < H2)[None, :],
                    other=0.0)  # fmt: skip
        total = tl.dot(h, w, total, input_precision=PRECISION)
    bias = tl.load(parameters + second_bias(members, m, inputs, H1, H2) + wide, mask=wide < H2, other=0.0)
    h = tl.maximum(total + bias[None, :], 0.0, propagate_nan=tl.PropagateNan.ALL)
    tl.store(h2 + row[:, None] * H2 + wide[None, :], h, mask=keep & there[:, None] & (wide < H2)[None, :])
    return h


@triton.jit
def times_few(h, vectors, count, SIZE: tl.constexpr, WIDTH: tl.constexpr, OUTPUTS: tl.constexpr,
              OUTS: tl.constexpr):  # fmt: skip
    """Products of a layer's rows with up to OUTPUTS vectors that lie one after the other, (BLOCK, OUTS)."""
    wide, o = tl.arange(0, WIDTH), tl.arange(0, OUTS)
    given = tl.zeros((h.shape[0], OUTS), tl.float32)
    for number in tl.static_range(OUTPUTS):
        w = tl.load(vectors + number * SIZE + wide, mask=(wide < SIZE) & (number < count), other=0.0)
        given = tl.where((o == number)[None, :], tl.sum(h * w[None, :], axis=1)[:, None], given)
    return given


@triton.jit
def last_layer(h, parameters, members, m, inputs, outputs, H1: tl.constexpr, H2: tl.constexpr,
               WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, OUTS: tl.constexpr):  # fmt: skip
    """Outputs of a block of rows from its second hidden layer, (BLOCK, OUTS)."""
    o = tl.arange(0, OUTS)
    w3 = parameters + last_weight(members, m, inputs, outputs, H1, H2)
    b3 = parameters + last_bias(members, m, inputs, outputs, H1, H2)
    bias = tl.load(b3 + o, mask=o < outputs, other=0.0)
    return times_few(h, w3, outputs, H2, WIDTH, OUTPUTS, OUTS) + bias[None, :]


@triton.jit
def hidden_derivatives(upper, row, there, parameters, members, m, inputs, outputs, h1, h2, d2, keep,
                       H1: tl.constexpr, H2: tl.constexpr, PRECISION: tl.constexpr, EXACT: tl.constexpr,
                       BLOCK: tl.constexpr, CHUNK: tl.constexpr, WIDTH: tl.constexpr,
                       OUTS: tl.constexpr):  # fmt: skip
    """d1 of a block of rows, (BLOCK, WIDTH), from d3, (BLOCK, OUTS); d2 goes to memory if it is to be kept."""
    wide, o = tl.arange(0, WIDTH), tl.arange(0, OUTS)
    w2 = parameters + second_weight(members, m, inputs, H1, H2)
    w3 = parameters + last_weight(members, m, inputs, outputs, H1, H2)
    total = tl.zeros((BLOCK, WIDTH), tl.float32)
    for begin in range(0, H2, CHUNK):
        c = begin + tl.arange(0, CHUNK)
        inside = there[:, None] & (c < H2)[None, :]
        w = tl.load(w3 + o[:, None] * H2 + c[None, :], mask=(o < outputs)[:, None] & (c < H2)[None, :],
                    other=0.0)  # fmt: skip
        d = tl.dot(upper, w, input_precision=EXACT)
        here = row[:, None] * H2 + c[None, :]
        d = tl.where(tl.load(h2 + here, mask=inside, other=0.0) > 0.0, d, 0.0)
        tl.store(d2 + here, d, mask=keep & inside)
        w = tl.load(w2 + c[:, None] + wide[None, :] * H2, mask=(c < H2)[:, None] & (wide < H1)[None, :],
                    other=0.0)  # fmt: skip
        total = tl.dot(d, w, total, input_precision=PRECISION)
    here = row[:, None] * H1 + wide[None, :]
    inside = there[:, None] & (wide < H1)[None, :]
    return tl.where(tl.load(h1 + here, mask=inside, other=0.0) > 0.0, total, 0.0)


@triton.jit
def keep_layer(layer, values, row, there, SIZE: tl.constexpr, WIDTH: tl.constexpr):
    """Write a block of rows of a layer of SIZE columns."""
    column = tl.arange(0, WIDTH)
    tl.store(
        layer + row[:, None] * SIZE + column[None, :], values, mask=there[:, None] & (column < SIZE)[None, :]
    )


@triton.jit(do_not_specialize=SIZES)
def forward(x, x_members, x_member, x_row, parameters, members, inputs, outputs, h1, h2, out, out_member,
            out_row, ROWS: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, KEEP: tl.constexpr,
            TANH: tl.constexpr, PRECISION: tl.constexpr, EXACT: tl.constexpr, BLOCK: tl.constexpr,
            CHUNK: tl.constexpr, DEPTH: tl.constexpr, INPUTS: tl.constexpr, WIDTH: tl.constexpr,
            OUTPUTS: tl.constexpr, OUTS: tl.constexpr):  # fmt: skip
    """All layers of a block of rows; the hidden ones go to memory only where they are to be kept."""
    m = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    h = hidden_layers(x + (m % x_members) * x_member, x_row, row, there, parameters, members, m, inputs,
                      h1 + m * ROWS * H1, h2 + m * ROWS * H2, KEEP, H1, H2, PRECISION, EXACT, BLOCK, CHUNK,
                      DEPTH, INPUTS, WIDTH)  # fmt: skip
    given = last_layer(h, parameters, members, m, inputs, outputs, H1, H2, WIDTH, OUTPUTS, OUTS)
    if TANH:
        given = tanh(given)
    o = tl.arange(0, OUTS)
    tl.store(out + m * out_member + row[:, None] * out_row + o[None, :], given,
             mask=there[:, None] & (o < outputs)[None, :])  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def backward(d3, parameters, members, inputs, outputs, h1, h2, d1, d2, ROWS: tl.constexpr, H1: tl.constexpr,
             H2: tl.constexpr, PRECISION: tl.constexpr, EXACT: tl.constexpr, BLOCK: tl.constexpr,
             CHUNK: tl.constexpr, WIDTH: tl.constexpr, OUTS: tl.constexpr):  # fmt: skip
    """From d3, fill d2 and d1 of a block of rows."""
    m = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    upper = rows_of(d3 + m * ROWS * outputs, row, there, outputs, OUTS)
    d = hidden_derivatives(upper, row, there, parameters, members, m, inputs, outputs, h1 + m * ROWS * H1,
                           h2 + m * ROWS * H2, d2 + m * ROWS * H2, True, H1, H2, PRECISION, EXACT, BLOCK, CHUNK,
                           WIDTH, OUTS)  # fmt: skip
    keep_layer(d1 + m * ROWS * H1, d, row, there, H1, WIDTH)


@triton.jit
def adam_factors(learning_rate, steps, LOG_BETA1: tl.constexpr, LOG_BETA2: tl.constexpr):
    """The rate over the first moment's bias, and the root of the second's, at step number ``steps``."""
    count = tl.load(steps).to(tl.float64)
    rate = tl.load(learning_rate) / (1.0 - tl.exp(count * LOG_BETA1))
    return rate.to(tl.float32), tl.sqrt(1.0 - tl.exp(count * LOG_BETA2)).to(tl.float32)


@triton.jit
def write_gradient(at, mask, found, gradient, parameters, first, second, target, polyak, rate, root,
                   STEP: tl.constexpr, BETA1: tl.constexpr, BETA2: tl.constexpr,
                   EPSILON: tl.constexpr):  # fmt: skip
    """Write a part of a gradient, or with STEP let Adam step the parameters there, and the targets after them.

    ``rate`` and ``root`` are ``adam_factors``; with ``polyak`` 0 there are no targets.
    """
    if STEP:
        mean = tl.load(first + at, mask=mask, other=0.0)
        mean += (found - mean) * (1.0 - BETA1)
        square = tl.load(second + at, mask=mask, other=0.0)
        square = square * BETA2 + found * found * (1.0 - BETA2)
        stepped = tl.load(parameters + at, mask=mask, other=0.0) - rate * mean / (
            tl.sqrt(square) / root + EPSILON
        )
        tl.store(first + at, mean, mask=mask)
        tl.store(second + at, square, mask=mask)
        tl.store(parameters + at, stepped, mask=mask)
        if polyak > 0.0:
            old = tl.load(target + at, mask=mask, other=0.0)
            tl.store(target + at, old + (stepped - old) * polyak, mask=mask)
    else:
        tl.store(gradient + at, found, mask=mask)


@triton.jit
def layer_gradient(tile, below, below_row, above, scale, inputs, weight, bias, gradient, parameters, first,
                   second, target, polyak, rate, root, SIZE: tl.constexpr, ROWS: tl.constexpr,
                   PRECISION: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr,
                   BIAS: tl.constexpr, STEP: tl.constexpr, BETA1: tl.constexpr, BETA2: tl.constexpr,
                   EPSILON: tl.constexpr, SCALED: tl.constexpr):  # fmt: skip
    """A tile of below^T above, the gradient by a layer's weights, and with BIAS above's sums, by its biases.

    ``above`` has SIZE columns; ``weight`` and ``bias`` say where the layer lies in the vectors. With SCALED,
    above's rows count by ``scale``.
    """
    across = (SIZE + WIDTH - 1) // WIDTH
    i = tile // across * HEIGHT + tl.arange(0, HEIGHT)
    j = tile % across * WIDTH + tl.arange(0, WIDTH)
    total = tl.zeros((HEIGHT, WIDTH), tl.float32)
    column = tl.zeros((WIDTH,), tl.float32)
    for begin in range(0, ROWS, DEPTH):
        r = begin + tl.arange(0, DEPTH)
        left = tl.load(below + i[:, None] + r[None, :] * below_row,
                       mask=(i < inputs)[:, None] & (r < ROWS)[None, :], other=0.0)  # fmt: skip
        right = tl.load(above + r[:, None] * SIZE + j[None, :],
                        mask=(r < ROWS)[:, None] & (j < SIZE)[None, :], other=0.0)  # fmt: skip
        if SCALED:
            right *= tl.load(scale + r, mask=r < ROWS, other=0.0)[:, None]
        total = tl.dot(left, right, total, input_precision=PRECISION)
        if BIAS:
            column += tl.sum(right, axis=0)
    write_gradient(weight + i[:, None] * SIZE + j[None, :], (i < inputs)[:, None] & (j < SIZE)[None, :], total,
                   gradient, parameters, first, second, target, polyak, rate, root, STEP, BETA1, BETA2,
                   EPSILON)  # fmt: skip
    if BIAS and tile < across:
        write_gradient(bias + j, j < SIZE, column, gradient, parameters, first, second, target, polyak, rate,
                       root, STEP, BETA1, BETA2, EPSILON)  # fmt: skip


@triton.jit
def network_gradient(tile, x, x_row, h1, h2, d1, d2, d3, members, m, inputs, outputs, gradient, parameters,
                     first, second, target, polyak, rate, root, ROWS: tl.constexpr, H1: tl.constexpr,
                     H2: tl.constexpr, PRECISION: tl.constexpr, EXACT: tl.constexpr, TILE: tl.constexpr,
                     INPUT_TILE: tl.constexpr, OUTS: tl.constexpr, DEPTH: tl.constexpr, STEP: tl.constexpr,
                     BETA1: tl.constexpr, BETA2: tl.constexpr, EPSILON: tl.constexpr,
                     SCALED: tl.constexpr):  # fmt: skip
    """A piece of one network's gradient: the second layer's tiles come first, then the first's and the last's.

    With SCALED, d1 and d2 are those by one unit of the network's only output, whose derivative is d3.
    """
    second_tiles = ((H1 + TILE - 1) // TILE) * ((H2 + TILE - 1) // TILE)
    first_tiles = ((inputs + INPUT_TILE - 1) // INPUT_TILE) * ((H1 + TILE - 1) // TILE)
    if tile < second_tiles:
        weight, bias = second_weight(members, m, inputs, H1, H2), second_bias(members, m, inputs, H1, H2)
        layer_gradient(tile, h1, H1, d2, d3, H1, weight, bias, gradient, parameters, first, second, target,
                       polyak, rate, root, H2, ROWS, PRECISION, TILE, TILE, DEPTH, True, STEP, BETA1, BETA2,
                       EPSILON, SCALED)  # fmt: skip
    elif tile < second_tiles + first_tiles:
        weight, bias = m * inputs * H1, first_bias(members, m, inputs, H1)
        layer_gradient(tile - second_tiles, x, x_row, d1, d3, inputs, weight, bias, gradient, parameters, first,
                       second, target, polyak, rate, root, H1, ROWS, EXACT, INPUT_TILE, TILE, DEPTH, True, STEP,
                       BETA1, BETA2, EPSILON, SCALED)  # fmt: skip
    elif tile < second_tiles + first_tiles + (H2 + TILE - 1) // TILE:
        piece = tile - second_tiles - first_tiles
        weight = last_weight(members, m, inputs, outputs, H1, H2)
        layer_gradient(piece, d3, outputs, h2, d3, outputs, weight, weight, gradient, parameters, first, second,
                       target, polyak, rate, root, H2, ROWS, EXACT, OUTS, TILE, DEPTH, False, STEP, BETA1,
                       BETA2, EPSILON, False)  # fmt: skip
        if piece == 0:
            o = tl.arange(0, OUTS)
            total = tl.zeros((OUTS,), tl.float32)
            for begin in range(0, ROWS, DEPTH):
                r = begin + tl.arange(0, DEPTH)
                total += tl.sum(rows_of(d3, r, r < ROWS, outputs, OUTS), axis=0)
            bias = last_bias(members, m, inputs, outputs, H1, H2)
            write_gradient(bias + o, o < outputs, total, gradient, parameters, first, second, target, polyak,
                           rate, root, STEP, BETA1, BETA2, EPSILON)  # fmt: skip


@triton.jit(do_not_specialize=SIZES)
def gradients(x, x_members, x_member, x_row, h1, h2, d1, d2, d3, members, inputs, outputs, gradient, parameters,
              first, second, learning_rate, steps, ROWS: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr,
              PRECISION: tl.constexpr, EXACT: tl.constexpr, TILE: tl.constexpr, INPUT_TILE: tl.constexpr,
              OUTS: tl.constexpr, DEPTH: tl.constexpr, STEP: tl.constexpr, BETA1: tl.constexpr,
              BETA2: tl.constexpr, EPSILON: tl.constexpr, LOG_BETA1: tl.constexpr, LOG_BETA2: tl.constexpr,
              SCALED: tl.constexpr):  # fmt: skip
    """The gradient by all parameters, or with STEP a step of Adam on it; as ``network_gradient``."""
    m = tl.program_id(1).to(tl.int64)
    rate, root = 0.0, 1.0
    if STEP:
        rate, root = adam_factors(learning_rate, steps, LOG_BETA1, LOG_BETA2)
    network_gradient(tl.program_id(0), x + (m % x_members) * x_member, x_row, h1 + m * ROWS * H1,
                     h2 + m * ROWS * H2, d1 + m * ROWS * H1, d2 + m * ROWS * H2, d3 + m * ROWS * outputs,
                     members, m, inputs, outputs, gradient, parameters, first, second, parameters, 0.0, rate,
                     root, ROWS, H1, H2, PRECISION, EXACT, TILE, INPUT_TILE, OUTS, DEPTH, STEP, BETA1, BETA2,
                     EPSILON, SCALED)  # fmt: skip


@triton.jit
def products_of_rows(x, x_row, row, there, h1, h2, d1, d2, upper, direction, members, m, inputs, outputs,
                     H1: tl.constexpr, H2: tl.constexpr, PRECISION: tl.constexpr, EXACT: tl.constexpr,
                     BLOCK: tl.constexpr, CHUNK: tl.constexpr, DEPTH: tl.constexpr, INPUTS: tl.constexpr,
                     WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, OUTS: tl.constexpr):  # fmt: skip
    """<gradient of an example by the parameters, direction>, layer by layer; ``upper`` is d3, (BLOCK, OUTS)."""
    wide = tl.arange(0, WIDTH)
    s1 = direction + first_bias(members, m, inputs, H1)
    g2 = direction + second_weight(members, m, inputs, H1, H2)
    moved = tl.zeros((BLOCK, WIDTH), tl.float32)
    result = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, H1, CHUNK):
        c = begin + tl.arange(0, CHUNK)
        inside = there[:, None] & (c < H1)[None, :]
        first = first_layer(x, x_row, row, there, direction + m * inputs * H1, c, inputs, H1, EXACT, BLOCK,
                            CHUNK, DEPTH, INPUTS)  # fmt: skip
        first += tl.load(s1 + c, mask=c < H1, other=0.0)[None, :]
        result += tl.sum(first * tl.load(d1 + row[:, None] * H1 + c[None, :], mask=inside, other=0.0), axis=1)
        h = tl.load(h1 + row[:, None] * H1 + c[None, :], mask=inside, other=0.0)
        g = tl.load(g2 + c[:, None] * H2 + wide[None, :], mask=(c < H1)[:, None] & (wide < H2)[None, :],
                    other=0.0)  # fmt: skip
        moved = tl.dot(h, g, moved, input_precision=PRECISION)
    inside = there[:, None] & (wide < H2)[None, :]
    bias = direction + second_bias(members, m, inputs, H1, H2)
    moved += tl.load(bias + wide, mask=wide < H2, other=0.0)[None, :]
    result += tl.sum(moved * tl.load(d2 + row[:, None] * H2 + wide[None, :], mask=inside, other=0.0), axis=1)
    h = tl.load(h2 + row[:, None] * H2 + wide[None, :], mask=inside, other=0.0)
    last = last_layer(h, direction, members, m, inputs, outputs, H1, H2, WIDTH, OUTPUTS, OUTS)
    return result + tl.sum(last * upper, axis=1)


@triton.jit(do_not_specialize=SIZES)
def example_products(x, x_members, x_member, x_row, h1, h2, d1, d2, d3, direction, members, inputs, outputs,
                     out, ROWS: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, PRECISION: tl.constexpr,
                     EXACT: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr, DEPTH: tl.constexpr,
                     INPUTS: tl.constexpr, WIDTH: tl.constexpr, OUTPUTS: tl.constexpr,
                     OUTS: tl.constexpr):  # fmt: skip
    """``products_of_rows`` of a block of rows."""
    m = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    upper = rows_of(d3 + m * ROWS * outputs, row, there, outputs, OUTS)
    result = products_of_rows(x + (m % x_members) * x_member, x_row, row, there, h1 + m * ROWS * H1,
                              h2 + m * ROWS * H2, d1 + m * ROWS * H1, d2 + m * ROWS * H2, upper, direction,
                              members, m, inputs, outputs, H1, H2, PRECISION, EXACT, BLOCK, CHUNK, DEPTH,
                              INPUTS, WIDTH, OUTPUTS, OUTS)  # fmt: skip
    tl.store(out + m * ROWS + row, result, mask=there)
