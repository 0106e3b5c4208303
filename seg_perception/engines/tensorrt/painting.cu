// Paints labels, confidence and superpixels from the output of a deployment model of the form `association`
// (docs/contract.md; Superpixel Transformer, eq. 5-7). The same results as seg_perception/painting.py.
//
// A block paints one tile of one cell. All pixels of a cell mix the class scores of the same nine superpixels, so these go
// into shared memory once a block. The work is cut into phases between barriers; within a phase threads do not talk to
// each other. That keeps the source plain enough to be compiled for a host as well, where a phase is a loop over the
// threads (HOST): how its results are checked where there is no GPU.
//
// The compiler is told, with -D: ASSOCIATION and CLASS_LOGITS, "float" or "half_bits"; CLASSES, K; ROWS, COLS, the grid;
// CELL_FEATURES, P; FEATURE_COLS, features along a cell's row; TILE_W, TILE_H, pixels of a tile.

typedef unsigned char uint8;
typedef unsigned short uint16;
typedef unsigned short half_bits;

#ifdef HOST
#include <cmath>
#define KERNEL extern "C" void
#define SHARED
#define THREADS(t) for (int t = 0; t < TILE_W * TILE_H; ++t)
#define BARRIER()
struct Block {
    int x, y, z;
};
#define BLOCK_PARAMETER , Block block
#else
#define KERNEL extern "C" __global__ void __launch_bounds__(TILE_W * TILE_H)
#define SHARED __shared__
#define THREADS(t) for (int t = threadIdx.x, once = 1; once; once = 0)
#define BARRIER() __syncthreads()
#define BLOCK_PARAMETER
#define block blockIdx
#endif

#ifdef HOST
#define DEVICE static inline
#define INFINITE INFINITY
// IEEE 754 half precision; the device has an instruction for it.
DEVICE float widened(half_bits bits) {
    int exponent = (bits >> 10) & 31, fraction = bits & 1023;
    float value = exponent == 31  ? (fraction ? NAN : INFINITY)
                  : exponent == 0 ? ldexpf((float)fraction, -24)
                                  : ldexpf((float)(fraction + 1024), exponent - 25);
    return bits >> 15 ? -value : value;
}
#else
#define DEVICE __device__ __forceinline__
#define INFINITE __int_as_float(0x7f800000)
DEVICE float widened(half_bits bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
#endif
DEVICE float widened(float value) { return value; }
DEVICE bool is_finite(float value) { return fabsf(value) <= 3.402823466e38f; }

// How the pixels of one axis lie in the cells; one entry a pixel.
struct AxisSample {
    int lower, upper;  // features of the pixel's cell on its two sides
    float weight;      // share of `upper`
};

// Whether neighbour n, in raster order with the cell itself in the middle, lies inside the grid.
#define INSIDE(n) \
    (row + (n) / 3 - 1 >= 0 && row + (n) / 3 - 1 < ROWS && col + (n) % 3 - 1 >= 0 && col + (n) % 3 - 1 < COLS)

// Arguments:
//   association    ASSOCIATION [ROWS, COLS, CELL_FEATURES, 9]
//   class_logits   CLASS_LOGITS [ROWS, COLS, CLASSES]
//   row_start      int [ROWS + 1]: the pixel rows of the cells in row r of the grid are row_start[r] to row_start[r + 1]
//   col_start      int [COLS + 1]: the same for pixel columns
//   y_samples      AxisSample [H]
//   x_samples      AxisSample [W]
//   labels         uint8 [H, W]
//   confidence     uint8 [H, W], or null where nobody wants it
//   superpixels    uint16 [H, W], or null
//   width          W
// Grid of blocks: (ROWS * COLS, tiles across the widest cell, tiles down the highest cell), for the first dimension is the one
// that may be large; TILE_W * TILE_H threads.
KERNEL paint(const ASSOCIATION* association, const CLASS_LOGITS* class_logits, const int* row_start, const int* col_start,
             const AxisSample* y_samples, const AxisSample* x_samples, uint8* labels, uint8* confidence,
             uint16* superpixels, int width BLOCK_PARAMETER) {
    SHARED float scores[9][CLASSES];   // class scores of the nine superpixels, 0 outside the grid
    SHARED float lowest[CLASSES], highest[CLASSES];  // of each class among the superpixels inside the grid
    SHARED uint8 candidates[CLASSES];  // classes that may win a pixel of this cell, in their order
    SHARED int candidate_count;
    SHARED int broken;  // whether anything that this cell is painted from is not finite

    const int row = block.x / COLS, col = block.x % COLS;
    const int top = row_start[row] + block.z * TILE_H, left = col_start[col] + block.y * TILE_W;
    const int bottom = row_start[row + 1], right = col_start[col + 1];
    if (top >= bottom || left >= right) return;  // all threads of the block together
    const ASSOCIATION* features = association + (long long)block.x * CELL_FEATURES * 9;

    THREADS(t) {
        if (t == 0) broken = 0;
    }
    BARRIER();
    THREADS(t) {
        for (int k = t; k < CLASSES; k += TILE_W * TILE_H) {
            lowest[k] = INFINITE;
            highest[k] = -INFINITE;
            for (int n = 0; n < 9; ++n) {
                scores[n][k] = 0.0f;
                if (!INSIDE(n)) continue;
                const int neighbour = (row + n / 3 - 1) * COLS + col + n % 3 - 1;
                const float score = widened(class_logits[(long long)neighbour * CLASSES + k]);
                if (!is_finite(score)) broken = 1;
                scores[n][k] = score;
                lowest[k] = fminf(lowest[k], score);
                highest[k] = fmaxf(highest[k], score);
            }
        }
        for (int i = t; i < 9 * CELL_FEATURES; i += TILE_W * TILE_H) {
            if (INSIDE(i % 9) && !is_finite(widened(features[i]))) broken = 1;
        }
    }
    BARRIER();

    // A mix with weights that add up to 1 lies between the lowest and the highest of what is mixed. So a class whose highest
    // score is below another one's lowest wins nowhere in the cell. (A little slack: the mix is rounded.)
    THREADS(t) {
        if (t == 0) {
            float least = -INFINITE;  // what the winner of a pixel reaches at least
#pragma unroll 4
            for (int k = 0; k < CLASSES; ++k) least = fmaxf(least, lowest[k]);
            least -= 1e-5f * fabsf(least);
            candidate_count = 0;
#pragma unroll 4
            for (int k = 0; k < CLASSES; ++k) {
                if (highest[k] >= least) candidates[candidate_count++] = (uint8)k;
            }
        }
    }
    BARRIER();

    THREADS(t) {
        const int x = left + t % TILE_W, y = top + t / TILE_W;
        if (x < right && y < bottom) {
            const long long pixel = (long long)y * width + x;
            if (broken) {
                labels[pixel] = 255;
                if (confidence) confidence[pixel] = 0;
                if (superpixels) superpixels[pixel] = (uint16)block.x;
            } else {
                const AxisSample u = x_samples[x], v = y_samples[y];
                float weight[9];
                float largest = -INFINITE;
                int owner = 4;
                for (int n = 0; n < 9; ++n) {
                    weight[n] = -INFINITE;
                    if (!INSIDE(n)) continue;
                    const float a = widened(features[(v.lower * FEATURE_COLS + u.lower) * 9 + n]);
                    const float b = widened(features[(v.lower * FEATURE_COLS + u.upper) * 9 + n]);
                    const float d = widened(features[(v.upper * FEATURE_COLS + u.lower) * 9 + n]);
                    const float e = widened(features[(v.upper * FEATURE_COLS + u.upper) * 9 + n]);
                    const float above = a + (b - a) * u.weight, below = d + (e - d) * u.weight;
                    weight[n] = above + (below - above) * v.weight;
                    if (weight[n] > largest) {  // the first of several
                        largest = weight[n];
                        owner = n;
                    }
                }
                float sum = 0.0f;
                for (int n = 0; n < 9; ++n) {
                    weight[n] = weight[n] == -INFINITE ? 0.0f : expf(weight[n] - largest);
                    sum += weight[n];
                }
                for (int n = 0; n < 9; ++n) weight[n] /= sum;

                float best = -INFINITE;
                int label = 0;
#pragma unroll 1
                for (int i = 0; i < candidate_count; ++i) {
                    const int k = candidates[i];
                    float mix = 0.0f;
                    for (int n = 0; n < 9; ++n) mix += weight[n] * scores[n][k];
                    if (mix > best) {
                        best = mix;
                        label = k;
                    }
                }
                labels[pixel] = (uint8)label;
                if (superpixels) {
                    superpixels[pixel] = (uint16)((row + owner / 3 - 1) * COLS + col + owner % 3 - 1);
                }
                if (confidence) {
                    float total = 0.0f;
#pragma unroll 4
                    for (int k = 0; k < CLASSES; ++k) {
                        float mix = 0.0f;
                        for (int n = 0; n < 9; ++n) mix += weight[n] * scores[n][k];
                        total += expf(mix - best);
                    }
                    confidence[pixel] = (uint8)(255.0f / total + 0.5f);
                }
            }
        }
    }
}
