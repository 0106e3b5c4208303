"""The loops of `painting`: a band of cells at a time, row by row inside a cell, vectorised along x.

What makes them quick, and exact:

- All pixels of a cell mix the class scores of the same nine superpixels. A class that another one beats at all nine wins
  nowhere in the cell (the weights of a mix are not negative), so most cells have one to three candidates; one candidate
  means a constant label without arithmetic.
- The bilinear weights of a cell's columns are a small table; no gathers.
- The largest score is subtracted a pixel, and the exponential is a polynomial of its own, without calls.
- For the confidence, classes that cannot add a hundredth of its last step are left out.

Written for LLVM's vectoriser: every inner loop runs along x over contiguous float32, with no branch, call or rounding
function in it. Numbers of a frame are scratch of the band that paints it.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import float32, int32
from numba.extending import intrinsic

from seg_perception.compiled import compiled
from seg_perception.painting_geometry import LANES, UNROLLED_COLUMNS

UNLABELLED = 255
LOG2_E = np.float32(math.log2(math.e))
# 2^f for f in [-1, 0], fitted for the least largest relative error, which is 8e-8, and exact at 0.
P0, P1, P2, P3, P4, P5 = (
    np.float32(c) for c in (1.0, 0.693143721, 0.240180143, 0.055297358, 0.009205797, 0.000944903)
)
# The same of degree 3: 9e-5, of which a confidence changes by less than a twentieth of its last step.
Q0, Q1, Q2, Q3 = (np.float32(c) for c in (1.0, 0.691587443, 0.231158553, 0.039615837))
LOWEST_EXPONENT = np.float32(-126.0)  # 2^-126 is the smallest normal float32; less counts as that
# Score of a neighbour outside the grid: never the largest, and its weight is none.
OUTSIDE = np.float32(-1e38)
LOWEST = np.float32(-3e38)
FULL, ONE, HALF, ZERO = np.float32(255), np.float32(1), np.float32(0.5), np.float32(0)
# Classes that are left out of a confidence change it by less than an eighth of its last step, all of them together.
NEGLIGIBLE = 1.0 / (255 * 8)


@intrinsic
def _from_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 with these bits."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return float32(int32), codegen


@numba.njit(inline="always")
def _exp2(power):  # type: ignore[no-untyped-def]
    """2^power for power <= 0."""
    power = max(power, LOWEST_EXPONENT)
    whole = int32(power)  # towards zero: the rest is in (-1, 0]
    rest = power - float32(whole)
    value = P0 + rest * (P1 + rest * (P2 + rest * (P3 + rest * (P4 + rest * P5))))
    return value * _from_bits(int32((whole + int32(127)) << int32(23)))  # type: ignore[call-arg]


@numba.njit(inline="always")
def _roughly_exp2(power):  # type: ignore[no-untyped-def]
    """`_exp2` for what is only summed up to a confidence."""
    power = max(power, LOWEST_EXPONENT)
    whole = int32(power)
    rest = power - float32(whole)
    value = Q0 + rest * (Q1 + rest * (Q2 + rest * Q3))
    return value * _from_bits(int32((whole + int32(127)) << int32(23)))  # type: ignore[call-arg]


@compiled
def paint_band(  # type: ignore[no-untyped-def]
    first_row,
    last_row,
    association,
    class_logits,
    row_start,
    col_start,
    y_lower,
    y_upper,
    y_weight,
    tile_start,
    tiles,
    labels,
    confidence,
    superpixels,
):
    """Paint the rows [first_row, last_row) of the grid.

    Args:
        association: float32 [R, C, h, w, 9].
        class_logits: float32 [R, C, K].
        row_start, col_start: int32 [R + 1], [C + 1], where each cell's pixels begin and end.
        y_lower, y_upper, y_weight: [H], features of the pixel row's cell on its two sides, and the share of the upper.
        tile_start: int32 [C + 1], where each column of cells' tiles begin and end.
        tiles: float32 [T * max(w, UNROLLED_COLUMNS) * LANES], the weight of each of the cell's feature columns at LANES
            pixels in a row.
        labels: uint8 [H, W], or [0, 0] where nobody wants them; confidence: the same; superpixels: the same in uint16.
    """
    rows, cols = association.shape[0], association.shape[1]
    features = association.shape[3]
    classes = class_logits.shape[2]
    margin = np.float32(math.log(NEGLIGIBLE / classes))
    want_labels, want_confidence, want_superpixels = labels.size > 0, confidence.size > 0, superpixels.size > 0
    widest = 0  # tiles of the widest cell
    for col in range(cols):
        widest = max(widest, tile_start[col + 1] - tile_start[col])
    columns = max(features, UNROLLED_COLUMNS)
    across = np.zeros((9, columns), np.float32)  # scores of a pixel row at the cell's feature columns
    floats = np.zeros(widest * FLOATS, np.float32)
    owner = np.zeros(widest * LANES, np.int32)
    label = np.zeros(widest * LANES, np.int32)
    low = np.zeros(LANES, np.float32)
    near = np.zeros((classes, 9), np.float32)  # class scores of the nine superpixels
    inside = np.zeros(9, np.int32)
    ids = np.zeros(9, np.int32)
    lowest = np.zeros(classes, np.float32)
    highest = np.zeros(classes, np.float32)
    candidates = np.zeros(classes, np.int32)
    counted = np.zeros(classes, np.int32)

    for row in range(first_row, last_row):
        top, bottom = row_start[row], row_start[row + 1]
        for col in range(cols):
            left, right = col_start[col], col_start[col + 1]
            if top == bottom or left == right:
                continue
            # The cell's neighbours, and whether all that it is painted from is finite.
            count = 0
            for n in range(9):
                r, c = row + n // 3 - 1, col + n % 3 - 1
                if 0 <= r < rows and 0 <= c < cols:
                    inside[count] = n
                    ids[count] = r * cols + c
                    count += 1
            finite = True
            for i in range(count):
                r, c = ids[i] // cols, ids[i] % cols
                for k in range(classes):
                    value = class_logits[r, c, k]
                    near[k, i] = value
                    finite &= np.isfinite(value)
                for v in range(association.shape[2]):
                    for u in range(features):
                        finite &= np.isfinite(association[row, col, v, u, inside[i]])
            for i in range(count, 9):
                near[:, i] = np.float32(0)
                across[i, :] = OUTSIDE
            if not finite:
                if want_labels:
                    labels[top:bottom, left:right] = UNLABELLED
                if want_confidence:
                    confidence[top:bottom, left:right] = 0
                if want_superpixels:
                    superpixels[top:bottom, left:right] = row * cols + col
                continue

            found, considered = _candidates(near, count, margin, lowest, highest, candidates, counted)
            constant = found == 1
            if constant and want_labels:
                labels[top:bottom, left:right] = candidates[0]
            mixes = want_confidence or (want_labels and not constant)
            if not mixes and not want_superpixels:
                continue

            first, count_tiles = tile_start[col], tile_start[col + 1] - tile_start[col]
            for y in range(top, bottom):
                for i in range(count):
                    n = inside[i]
                    for u in range(features):
                        above = association[row, col, y_lower[y], u, n]
                        across[i, u] = above + (association[row, col, y_upper[y], u, n] - above) * y_weight[y]
                if columns == UNROLLED_COLUMNS:
                    _associate_four(across, tiles, first, count_tiles, ids, floats, owner)
                else:
                    _associate(across, tiles, columns, first, count_tiles, ids, floats, owner)
                if want_superpixels:
                    _copy(owner, superpixels[y, left:right])
                if not mixes:
                    continue
                _weigh(floats, count_tiles)
                for j in range(found):
                    _compete(near[candidates[j]], candidates[j], floats, label, count_tiles)
                if want_labels and not constant:
                    _copy(label, labels[y, left:right])
                if want_confidence:
                    reached = _lowest(floats, low, count_tiles)  # by the winner at any of the row's pixels
                    for j in range(considered):
                        if highest[counted[j]] >= reached + margin:
                            _add_probability(near[counted[j]], floats, count_tiles)
                    _confide(floats, label, count_tiles)
                    _copy(label, confidence[y, left:right])


@compiled
def _candidates(near, count, margin, lowest, highest, candidates, counted):  # type: ignore[no-untyped-def]
    """Classes that may win a pixel of the cell, and classes that count in its confidence, both in their order.

    Args:
        near: float32 [K, 9], of which the first `count` columns are neighbours.
        lowest, highest: float32 [K], scratch.
        candidates, counted: int32 [K], filled.

    Returns:
        how many of each.
    """
    classes = near.shape[0]
    least = -np.float32(np.inf)  # what the winner of any pixel reaches at least
    for k in range(classes):
        low, high = near[k, 0], near[k, 0]
        for i in range(1, count):
            low, high = min(low, near[k, i]), max(high, near[k, i])
        lowest[k], highest[k] = low, high
        least = max(least, low)
    found, considered = 0, 0
    for k in range(classes):
        if highest[k] >= least:
            candidates[found] = k
            found += 1
        if highest[k] >= least + margin:
            counted[considered] = k
            considered += 1
    # To be beaten is handed on: what beats the one that beats k beats k as well. So the list can be thinned in place.
    kept = 0
    for a in range(found):
        k = candidates[a]
        beaten = False
        for b in range(found):
            other = candidates[b]
            if other == k or highest[other] < highest[k] or lowest[other] < lowest[k]:
                continue
            everywhere, somewhere = True, False
            for i in range(count):
                everywhere &= near[other, i] >= near[k, i]
                somewhere |= near[other, i] > near[k, i]
            beaten |= everywhere and (somewhere or other < k)  # of equals the first wins
        if not beaten:
            candidates[kept] = k
            kept += 1
    return kept, considered


# The loops below run over tiles of LANES pixels. That number is known when they are compiled, so each becomes a few vector
# instructions without a remainder; what is computed behind the cell's end repeats its last pixel. The nine neighbours are
# written out: in a loop over them, each would load and store what here stays in registers, and take five times as long.
#
# A tile's floats lie in one piece of memory, at places known when the loops are compiled. So the vectoriser sees that they
# do not overlap; of a dozen arrays it would have to check that for each pair, and gives up.
LARGEST, SHARE, BEST, TOTAL = (LANES * row for row in (9, 10, 11, 12))  # rows 0 to 8 are the neighbours'
FLOATS = LANES * 13  # of a tile


@compiled
def _associate_four(across, tiles, first, count, ids, floats, owner):  # type: ignore[no-untyped-def]
    """Scores of a row's pixels, the largest of each and whose it is (the first of several), for up to four feature columns.

    Args:
        across: float32 [9, 4], scores at the cell's feature columns.
        tiles: float32 [T * 4 * LANES], of which the cell has `count` from `first` on.
        ids: int32 [9], whose the scores are.
        floats: float32 [count * FLOATS]: fills in the scores and LARGEST.
        owner: int32 [count * LANES], filled.
    """
    a0, b0, c0, d0 = across[0, 0], across[0, 1], across[0, 2], across[0, 3]
    a1, b1, c1, d1 = across[1, 0], across[1, 1], across[1, 2], across[1, 3]
    a2, b2, c2, d2 = across[2, 0], across[2, 1], across[2, 2], across[2, 3]
    a3, b3, c3, d3 = across[3, 0], across[3, 1], across[3, 2], across[3, 3]
    a4, b4, c4, d4 = across[4, 0], across[4, 1], across[4, 2], across[4, 3]
    a5, b5, c5, d5 = across[5, 0], across[5, 1], across[5, 2], across[5, 3]
    a6, b6, c6, d6 = across[6, 0], across[6, 1], across[6, 2], across[6, 3]
    a7, b7, c7, d7 = across[7, 0], across[7, 1], across[7, 2], across[7, 3]
    a8, b8, c8, d8 = across[8, 0], across[8, 1], across[8, 2], across[8, 3]
    i0, i1, i2, i3, i4, i5, i6, i7, i8 = ids[0], ids[1], ids[2], ids[3], ids[4], ids[5], ids[6], ids[7], ids[8]
    for t in range(count):
        weights = tiles[(first + t) * 4 * LANES : (first + t + 1) * 4 * LANES]
        f = floats[t * FLOATS : (t + 1) * FLOATS]
        owners = owner[t * LANES : (t + 1) * LANES]
        for x in range(LANES):
            p, q, r, s = weights[x], weights[LANES + x], weights[2 * LANES + x], weights[3 * LANES + x]
            s0 = (a0 * p + b0 * q) + (c0 * r + d0 * s)
            s1 = (a1 * p + b1 * q) + (c1 * r + d1 * s)
            s2 = (a2 * p + b2 * q) + (c2 * r + d2 * s)
            s3 = (a3 * p + b3 * q) + (c3 * r + d3 * s)
            s4 = (a4 * p + b4 * q) + (c4 * r + d4 * s)
            s5 = (a5 * p + b5 * q) + (c5 * r + d5 * s)
            s6 = (a6 * p + b6 * q) + (c6 * r + d6 * s)
            s7 = (a7 * p + b7 * q) + (c7 * r + d7 * s)
            s8 = (a8 * p + b8 * q) + (c8 * r + d8 * s)
            value, own = s0, i0
            value, own = (s1, i1) if s1 > value else (value, own)
            value, own = (s2, i2) if s2 > value else (value, own)
            value, own = (s3, i3) if s3 > value else (value, own)
            value, own = (s4, i4) if s4 > value else (value, own)
            value, own = (s5, i5) if s5 > value else (value, own)
            value, own = (s6, i6) if s6 > value else (value, own)
            value, own = (s7, i7) if s7 > value else (value, own)
            value, own = (s8, i8) if s8 > value else (value, own)
            owners[x] = own
            f[LARGEST + x] = value
            f[x], f[LANES + x], f[2 * LANES + x] = s0, s1, s2
            f[3 * LANES + x], f[4 * LANES + x], f[5 * LANES + x] = s3, s4, s5
            f[6 * LANES + x], f[7 * LANES + x], f[8 * LANES + x] = s6, s7, s8


@compiled
def _associate(across, tiles, features, first, count, ids, floats, owner):  # type: ignore[no-untyped-def]
    """`_associate_four` for more feature columns."""
    for t in range(count):
        weights = tiles[(first + t) * features * LANES : (first + t + 1) * features * LANES]
        f = floats[t * FLOATS : (t + 1) * FLOATS]
        owners = owner[t * LANES : (t + 1) * LANES]
        for n in range(9):
            scores = f[n * LANES : (n + 1) * LANES]
            scores[:] = np.float32(0)
            for u in range(features):
                weight, value = weights[u * LANES : (u + 1) * LANES], across[n, u]
                for x in range(LANES):
                    scores[x] += value * weight[x]
        for x in range(LANES):
            f[LARGEST + x] = f[x]
            owners[x] = ids[0]
        for n in range(1, 9):
            scores, own = f[n * LANES : (n + 1) * LANES], ids[n]
            for x in range(LANES):
                better = scores[x] > f[LARGEST + x]
                f[LARGEST + x] = scores[x] if better else f[LARGEST + x]
                owners[x] = own if better else owners[x]


@compiled
def _weigh(floats, count):  # type: ignore[no-untyped-def]
    """Scores -> exp(score - LARGEST), in place; SHARE becomes log2(e) over their sum. BEST and TOTAL start anew."""
    for t in range(count):
        f = floats[t * FLOATS : (t + 1) * FLOATS]
        for x in range(LANES):
            high = f[LARGEST + x]
            e0 = _exp2((f[x] - high) * LOG2_E)
            e1 = _exp2((f[LANES + x] - high) * LOG2_E)
            e2 = _exp2((f[2 * LANES + x] - high) * LOG2_E)
            e3 = _exp2((f[3 * LANES + x] - high) * LOG2_E)
            e4 = _exp2((f[4 * LANES + x] - high) * LOG2_E)
            e5 = _exp2((f[5 * LANES + x] - high) * LOG2_E)
            e6 = _exp2((f[6 * LANES + x] - high) * LOG2_E)
            e7 = _exp2((f[7 * LANES + x] - high) * LOG2_E)
            e8 = _exp2((f[8 * LANES + x] - high) * LOG2_E)
            f[SHARE + x] = LOG2_E / (((e0 + e1 + e2) + (e3 + e4 + e5)) + (e6 + e7 + e8))
            f[BEST + x] = LOWEST
            f[TOTAL + x] = np.float32(0)
            f[x], f[LANES + x], f[2 * LANES + x] = e0, e1, e2
            f[3 * LANES + x], f[4 * LANES + x], f[5 * LANES + x] = e3, e4, e5
            f[6 * LANES + x], f[7 * LANES + x], f[8 * LANES + x] = e6, e7, e8


@compiled
def _compete(near, k, floats, label, count):  # type: ignore[no-untyped-def]
    """Let class k, with the scores near [9], compete for every pixel. Weights need not add up to 1 for that."""
    c0, c1, c2, c3, c4, c5, c6, c7, c8 = near[0], near[1], near[2], near[3], near[4], near[5], near[6], near[7], near[8]
    for t in range(count):
        f = floats[t * FLOATS : (t + 1) * FLOATS]
        labels = label[t * LANES : (t + 1) * LANES]
        for x in range(LANES):
            mix = (
                (f[x] * c0 + f[LANES + x] * c1 + f[2 * LANES + x] * c2)
                + (f[3 * LANES + x] * c3 + f[4 * LANES + x] * c4 + f[5 * LANES + x] * c5)
                + (f[6 * LANES + x] * c6 + f[7 * LANES + x] * c7 + f[8 * LANES + x] * c8)
            )
            better = mix > f[BEST + x]
            f[BEST + x] = mix if better else f[BEST + x]
            labels[x] = k if better else labels[x]


@compiled
def _add_probability(near, floats, count):  # type: ignore[no-untyped-def]
    """Add exp(mix - BEST) of a class to TOTAL, the sum of the softmax."""
    c0, c1, c2, c3, c4, c5, c6, c7, c8 = near[0], near[1], near[2], near[3], near[4], near[5], near[6], near[7], near[8]
    for t in range(count):
        f = floats[t * FLOATS : (t + 1) * FLOATS]
        for x in range(LANES):
            mix = (
                (f[x] * c0 + f[LANES + x] * c1 + f[2 * LANES + x] * c2)
                + (f[3 * LANES + x] * c3 + f[4 * LANES + x] * c4 + f[5 * LANES + x] * c5)
                + (f[6 * LANES + x] * c6 + f[7 * LANES + x] * c7 + f[8 * LANES + x] * c8)
            )
            f[TOTAL + x] += _roughly_exp2(min((mix - f[BEST + x]) * f[SHARE + x], ZERO))


@compiled
def _confide(floats, confidence, count):  # type: ignore[no-untyped-def]
    """TOTAL, at least 1, as a probability x 255, rounded."""
    for t in range(count):
        f = floats[t * FLOATS : (t + 1) * FLOATS]
        values = confidence[t * LANES : (t + 1) * LANES]
        for x in range(LANES):
            values[x] = int32(FULL / max(f[TOTAL + x], ONE) + HALF)  # type: ignore[call-overload]


@compiled
def _lowest(floats, low, count):  # type: ignore[no-untyped-def]
    """The lowest score of a winner at a row's pixels, with weights that add up to 1. `low`: float32 [LANES], scratch."""
    low[:] = np.float32(3e38)
    for t in range(count):
        f = floats[t * FLOATS : (t + 1) * FLOATS]
        for x in range(LANES):
            reached = f[BEST + x] * f[SHARE + x]
            low[x] = reached if reached < low[x] else low[x]
    lowest = low[0]
    for x in range(1, LANES):
        lowest = min(lowest, low[x])
    return lowest / LOG2_E


@compiled
def _copy(values, pixels):  # type: ignore[no-untyped-def]
    """Values, int32, into a row of the output."""
    whole = len(pixels) // LANES * LANES
    for start in range(0, whole, LANES):
        source, target = values[start : start + LANES], pixels[start : start + LANES]
        for x in range(LANES):
            target[x] = source[x]
    for x in range(whole, len(pixels)):
        pixels[x] = values[x]
