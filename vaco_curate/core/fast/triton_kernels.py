"""Triton kernels of passes through stacks of networks with two hidden layers (``triton_passes.py``).

In all of them ``m`` is a network, ``x`` its inputs, of which there may be fewer than networks (``x_members``),
``h1`` and ``h2`` are the hidden layers after ReLU, ``d1`` to ``d3`` derivatives by the layers before it, ``w``
and ``b`` parameters, ``g`` and ``s`` other parameters of the same shapes: a gradient, or a direction. The two
matrices of weights before the last lie as (inputs, outputs), the last as (outputs, inputs), as in
``StackedMLP``. ROWS is the number of examples; BLOCK of them are a program's.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def first_layer(x, x_row, row, there, w1, column, D: tl.constexpr, H1: tl.constexpr, EXACT: tl.constexpr,
                BLOCK: tl.constexpr, CHUNK: tl.constexpr, DEPTH: tl.constexpr):  # fmt: skip
    """Rows of x times some columns of the first layer's weights."""
    total = tl.zeros((BLOCK, CHUNK), tl.float32)
    for begin in range(0, D, DEPTH):
        d = begin + tl.arange(0, DEPTH)
        some = tl.load(x + row[:, None] * x_row + d[None, :], mask=there[:, None] & (d < D)[None, :], other=0.0)
        w = tl.load(w1 + d[:, None] * H1 + column[None, :], mask=(d < D)[:, None] & (column < H1)[None, :],
                    other=0.0)  # fmt: skip
        total = tl.dot(some, w, total, input_precision=EXACT)
    return total


@triton.jit
def forward(x, x_members, x_member, x_row, w1, b1, w2, b2, w3, b3, h1, h2, out, ROWS: tl.constexpr,
            D: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, OUTPUTS: tl.constexpr, KEEP: tl.constexpr,
            PRECISION: tl.constexpr, EXACT: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
            DEPTH: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """All layers of a block of rows; the hidden ones go to memory only where they are to be kept."""
    m = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    wide = tl.arange(0, WIDTH)
    x += (m % x_members) * x_member
    w1 += m * D * H1
    w2 += m * H1 * H2
    at = m * ROWS + row
    total = tl.zeros((BLOCK, WIDTH), tl.float32)
    for begin in range(0, H1, CHUNK):
        c = begin + tl.arange(0, CHUNK)
        bias = tl.load(b1 + m * H1 + c, mask=c < H1, other=0.0)
        h = first_layer(x, x_row, row, there, w1, c, D, H1, EXACT, BLOCK, CHUNK, DEPTH) + bias[None, :]
        h = tl.maximum(h, 0.0, propagate_nan=tl.PropagateNan.ALL)
        if KEEP:
            tl.store(h1 + at[:, None] * H1 + c[None, :], h, mask=there[:, None] & (c < H1)[None, :])
        w = tl.load(w2 + c[:, None] * H2 + wide[None, :], mask=(c < H1)[:, None] & (wide < H2)[None, :],
                    other=0.0)  # fmt: skip
        total = tl.dot(h, w, total, input_precision=PRECISION)
    bias = tl.load(b2 + m * H2 + wide, mask=wide < H2, other=0.0)
    h = tl.maximum(total + bias[None, :], 0.0, propagate_nan=tl.PropagateNan.ALL)
    if KEEP:
        tl.store(h2 + at[:, None] * H2 + wide[None, :], h, mask=there[:, None] & (wide < H2)[None, :])
    for o in tl.static_range(OUTPUTS):
        w = tl.load(w3 + (m * OUTPUTS + o) * H2 + wide, mask=wide < H2, other=0.0)
        value = tl.sum(h * w[None, :], axis=1) + tl.load(b3 + m * OUTPUTS + o)
        tl.store(out + at * OUTPUTS + o, value, mask=there)


@triton.jit
def backward(d3, w2, w3, h1, h2, d1, d2, ROWS: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr,
             OUTPUTS: tl.constexpr, PRECISION: tl.constexpr, BLOCK: tl.constexpr, CHUNK: tl.constexpr,
             WIDTH: tl.constexpr):  # fmt: skip
    """From d3, fill d2 and d1 of a block of rows."""
    m = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    wide = tl.arange(0, WIDTH)
    w2 += m * H1 * H2
    at = m * ROWS + row
    total = tl.zeros((BLOCK, WIDTH), tl.float32)
    for begin in range(0, H2, CHUNK):
        c = begin + tl.arange(0, CHUNK)
        inside = there[:, None] & (c < H2)[None, :]
        here = at[:, None] * H2 + c[None, :]
        d = tl.zeros((BLOCK, CHUNK), tl.float32)
        for o in tl.static_range(OUTPUTS):
            upper = tl.load(d3 + at * OUTPUTS + o, mask=there, other=0.0)
            w = tl.load(w3 + (m * OUTPUTS + o) * H2 + c, mask=c < H2, other=0.0)
            d += upper[:, None] * w[None, :]
        d = tl.where(tl.load(h2 + here, mask=inside, other=0.0) > 0.0, d, 0.0)
        tl.store(d2 + here, d, mask=inside)
        w = tl.load(w2 + c[:, None] + wide[None, :] * H2, mask=(c < H2)[:, None] & (wide < H1)[None, :],
                    other=0.0)  # fmt: skip
        total = tl.dot(d, w, total, input_precision=PRECISION)
    here = at[:, None] * H1 + wide[None, :]
    inside = there[:, None] & (wide < H1)[None, :]
    d = tl.where(tl.load(h1 + here, mask=inside, other=0.0) > 0.0, total, 0.0)
    tl.store(d1 + here, d, mask=inside)


@triton.jit
def tile_gradient(tile, below, below_row, above, gradient, sums, ROWS: tl.constexpr, INPUTS: tl.constexpr,
                  OUTPUTS: tl.constexpr, PRECISION: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
                  DEPTH: tl.constexpr):  # fmt: skip
    """A tile of below^T above, the gradient by a layer's weights, and the sums of above's columns."""
    across = (OUTPUTS + WIDTH - 1) // WIDTH
    i = tile // across * HEIGHT + tl.arange(0, HEIGHT)
    j = tile % across * WIDTH + tl.arange(0, WIDTH)
    total = tl.zeros((HEIGHT, WIDTH), tl.float32)
    column = tl.zeros((WIDTH,), tl.float32)
    for begin in range(0, ROWS, DEPTH):
        r = begin + tl.arange(0, DEPTH)
        left = tl.load(below + i[:, None] + r[None, :] * below_row,
                       mask=(i < INPUTS)[:, None] & (r < ROWS)[None, :], other=0.0)  # fmt: skip
        right = tl.load(above + r[:, None] * OUTPUTS + j[None, :],
                        mask=(r < ROWS)[:, None] & (j < OUTPUTS)[None, :], other=0.0)  # fmt: skip
        total = tl.dot(left, right, total, input_precision=PRECISION)
        column += tl.sum(right, axis=0)
    tl.store(gradient + i[:, None] * OUTPUTS + j[None, :], total,
             mask=(i < INPUTS)[:, None] & (j < OUTPUTS)[None, :])  # fmt: skip
    if tile < across:
        tl.store(sums + j, column, mask=j < OUTPUTS)


@triton.jit
def gradients(x, x_members, x_member, x_row, h1, h2, d1, d2, d3, g1, s1, g2, s2, g3, s3, ROWS: tl.constexpr,
              D: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr, OUTPUTS: tl.constexpr, HIDDEN: tl.constexpr,
              PRECISION: tl.constexpr, EXACT: tl.constexpr, TILE: tl.constexpr, DEPTH: tl.constexpr,
              INPUT_TILE: tl.constexpr):  # fmt: skip
    """The gradient by all parameters; by the weights between the hidden layers, g2, only if HIDDEN.

    Programs of a network: tiles of g2, then of g1, then pieces of g3, each with the biases beside it.
    """
    m = tl.program_id(1).to(tl.int64)
    tile = tl.program_id(0)
    second = 0
    if HIDDEN:
        second = ((H1 + TILE - 1) // TILE) * ((H2 + TILE - 1) // TILE)
    first = ((D + INPUT_TILE - 1) // INPUT_TILE) * ((H1 + TILE - 1) // TILE)
    if HIDDEN and tile < second:
        tile_gradient(tile, h1 + m * ROWS * H1, H1, d2 + m * ROWS * H2, g2 + m * H1 * H2, s2 + m * H2, ROWS, H1,
                      H2, PRECISION, TILE, TILE, DEPTH)  # fmt: skip
    elif tile < second + first:
        tile_gradient(tile - second, x + (m % x_members) * x_member, x_row, d1 + m * ROWS * H1, g1 + m * D * H1,
                      s1 + m * H1, ROWS, D, H1, EXACT, INPUT_TILE, TILE, DEPTH)  # fmt: skip
    else:
        piece = tile - second - first
        j = piece * TILE + tl.arange(0, TILE)
        inside = j < H2
        if not HIDDEN:
            line = tl.zeros((TILE,), tl.float32)
            for begin in range(0, ROWS, DEPTH):
                r = begin + tl.arange(0, DEPTH)
                d = tl.load(d2 + (m * ROWS + r)[:, None] * H2 + j[None, :],
                            mask=(r < ROWS)[:, None] & inside[None, :], other=0.0)  # fmt: skip
                line += tl.sum(d, axis=0)
            tl.store(s2 + m * H2 + j, line, mask=inside)
        for o in tl.static_range(OUTPUTS):
            line = tl.zeros((TILE,), tl.float32)
            total = tl.zeros((DEPTH,), tl.float32)
            for begin in range(0, ROWS, DEPTH):
                r = begin + tl.arange(0, DEPTH)
                upper = tl.load(d3 + (m * ROWS + r) * OUTPUTS + o, mask=r < ROWS, other=0.0)
                h = tl.load(h2 + (m * ROWS + r)[:, None] * H2 + j[None, :],
                            mask=(r < ROWS)[:, None] & inside[None, :], other=0.0)  # fmt: skip
                line += tl.sum(h * upper[:, None], axis=0)
                total += upper
            tl.store(g3 + (m * OUTPUTS + o) * H2 + j, line, mask=inside)
            if piece == 0:
                tl.store(s3 + m * OUTPUTS + o, tl.sum(total, axis=0))


@triton.jit
def example_products(x, x_members, x_member, x_row, h1, h2, d1, d2, d3, g1, s1, g2, s2, g3, s3, out,
                     ROWS: tl.constexpr, D: tl.constexpr, H1: tl.constexpr, H2: tl.constexpr,
                     OUTPUTS: tl.constexpr, PRECISION: tl.constexpr, EXACT: tl.constexpr, BLOCK: tl.constexpr,
                     CHUNK: tl.constexpr, DEPTH: tl.constexpr, WIDTH: tl.constexpr):  # fmt: skip
    """<gradient of an example by the parameters, direction>, layer by layer, of a block of rows."""
    m = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = row < ROWS
    wide = tl.arange(0, WIDTH)
    x += (m % x_members) * x_member
    at = m * ROWS + row
    moved = tl.zeros((BLOCK, WIDTH), tl.float32)
    result = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, H1, CHUNK):
        c = begin + tl.arange(0, CHUNK)
        inside = there[:, None] & (c < H1)[None, :]
        first = first_layer(x, x_row, row, there, g1 + m * D * H1, c, D, H1, EXACT, BLOCK, CHUNK, DEPTH)
        first += tl.load(s1 + m * H1 + c, mask=c < H1, other=0.0)[None, :]
        result += tl.sum(first * tl.load(d1 + at[:, None] * H1 + c[None, :], mask=inside, other=0.0), axis=1)
        h = tl.load(h1 + at[:, None] * H1 + c[None, :], mask=inside, other=0.0)
        g = tl.load(g2 + (m * H1 + c)[:, None] * H2 + wide[None, :],
                    mask=(c < H1)[:, None] & (wide < H2)[None, :], other=0.0)  # fmt: skip
        moved = tl.dot(h, g, moved, input_precision=PRECISION)
    inside = there[:, None] & (wide < H2)[None, :]
    moved += tl.load(s2 + m * H2 + wide, mask=wide < H2, other=0.0)[None, :]
    result += tl.sum(moved * tl.load(d2 + at[:, None] * H2 + wide[None, :], mask=inside, other=0.0), axis=1)
    h = tl.load(h2 + at[:, None] * H2 + wide[None, :], mask=inside, other=0.0)
    for o in tl.static_range(OUTPUTS):
        g = tl.load(g3 + (m * OUTPUTS + o) * H2 + wide, mask=wide < H2, other=0.0)
        value = tl.sum(h * g[None, :], axis=1) + tl.load(s3 + m * OUTPUTS + o)
        result += value * tl.load(d3 + at * OUTPUTS + o, mask=there, other=0.0)
    tl.store(out + at, result, mask=there)
