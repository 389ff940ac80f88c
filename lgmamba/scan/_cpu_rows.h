// What stands around the scan in a block, row by row: the RMS norm, forward and backward.
// Glossary: lgmamba/scan/__init__.py.

#pragma once

#include "_cpu_simd.h"

// Mirrored field by field by `RowArgs` in cpu_interface.py. Strides count elements; the last axis is contiguous.
struct RowArgs {
  int64_t rows, D, x_stride, dy_stride, threads;
  double eps;
  const float *x, *weight, *dy;
  float *y, *dx, *dweight;  // (rows, D), (rows, D), (D,); contiguous
};

constexpr int64_t NORM_PARTS = 32;  // sums over rows: this many neighbouring groups of them, added up in order

static inline float sum_of_squares(const float *x, int64_t D) {
  vf total = {};
  for (int64_t d = 0; d < D; d += W) {
    vf v = load(x + d, std::min<int64_t>(W, D - d));
    total += v * v;
  }
  return hsum(total);
}

extern "C" void lgmamba_norm_forward(const RowArgs *args) {
  const RowArgs &a = *args;
  const int64_t parts = std::min(a.rows, NORM_PARTS);
  parallel(parts, a.threads, [&](int64_t part) {
    for (int64_t r = part * a.rows / parts; r < (part + 1) * a.rows / parts; r++) {
      const float *x = a.x + r * a.x_stride;
      const float scale = 1.f / std::sqrt(sum_of_squares(x, a.D) / a.D + (float)a.eps);
      for (int64_t d = 0; d < a.D; d += W) {
        const int64_t lanes = std::min<int64_t>(W, a.D - d);
        store(a.y + r * a.D + d, load(x + d, lanes) * scale * load(a.weight + d, lanes), lanes);
      }
    }
  });
}

// With x' = x r, r = 1 / sqrt(mean x^2 + eps), g = dy weight: dx = r (g - x' mean(g x')), dweight = sum over rows of dy x'.
extern "C" void lgmamba_norm_backward(const RowArgs *args) {
  const RowArgs &a = *args;
  const int64_t parts = std::min(a.rows, NORM_PARTS), blocks = (a.D + W - 1) / W;
  Vectors sums(parts * blocks);
  sums.zero();
  parallel(parts, a.threads, [&](int64_t part) {
    vf *sum = sums.p + part * blocks;
    for (int64_t r = part * a.rows / parts; r < (part + 1) * a.rows / parts; r++) {
      const float *x = a.x + r * a.x_stride, *dy = a.dy + r * a.dy_stride;
      const float scale = 1.f / std::sqrt(sum_of_squares(x, a.D) / a.D + (float)a.eps);
      vf along = {};
      for (int64_t d = 0; d < a.D; d += W) {
        const int64_t lanes = std::min<int64_t>(W, a.D - d);
        const vf normed = load(x + d, lanes) * scale, g = load(dy + d, lanes);
        along += g * load(a.weight + d, lanes) * normed;
        sum[d / W] += g * normed;
      }
      const float mean = hsum(along) / a.D;
      for (int64_t d = 0; d < a.D; d += W) {
        const int64_t lanes = std::min<int64_t>(W, a.D - d);
        const vf normed = load(x + d, lanes) * scale, g = load(dy + d, lanes) * load(a.weight + d, lanes);
        store(a.dx + r * a.D + d, scale * (g - normed * mean), lanes);
      }
    }
  });
  for (int64_t blk = 0; blk < blocks; blk++) {
    vf total = {};
    for (int64_t part = 0; part < parts; part++) total += sums.p[part * blocks + blk];
    store(a.dweight + blk * W, total, std::min<int64_t>(W, a.D - blk * W));
  }
}
