// A whole Mamba mixer without a short convolution, forward and backward, around the scan of `_cpu_kernel.cpp`:
//
//   xz = u in_proj^T, x = SiLU(xz[:, :D]), low = x x_proj^T, dt = low[:, :R] dt_proj^T, y = scan, out = y out_proj^T
//
// Rows are steps of all samples, T = B L of them; d the model's width, R the rank of the step size. Every sum has an order fixed by
// the shapes: those over rows have one place each, and all else is a row's own. Glossary: lgmamba/scan/__init__.py.

#pragma once

#include <functional>

#include "_cpu_products.h"
#include "_cpu_rows.h"

// Mirrored field by field by `MixArgs` in cpu_interface.py. In `scan` the rows of x, dt, z, Bmat, Cmat and dy lie in what is here.
struct MixArgs {
  Args scan;
  int64_t d, R, low_row;                                                  // low_row: R + 2 N, filled up to whole vectors
  const float *u, *in_proj, *x_proj, *dt_proj, *out_proj, *d_out;          // (T, d), weights as in torch, (T, d)
  float *xz, *x, *low, *dt, *out;                                         // (T, 2 D), (T, D), (T, low_row), (T, D), (T, d)
  float *dy, *dxz, *dlow, *du, *din_proj, *dx_proj, *ddt_proj, *dout_proj;  // du null where not required
};

static void in_parts(int64_t rows, int64_t threads, const std::function<void(int64_t, int64_t)> &task) {
  const int64_t parts = std::min<int64_t>(rows, 32);
  parallel(parts, threads, [&](int64_t i) { task(i * rows / parts, (i + 1) * rows / parts); });
}

extern "C" void lgmamba_forward(const Args *args);
extern "C" void lgmamba_backward(const Args *args);

extern "C" void lgmamba_mix_forward(const MixArgs *args) {
  const MixArgs &m = *args;
  const Args &a = m.scan;
  const int64_t T = a.B * a.L, D = a.D, low = m.R + 2 * a.N;
  const Packed in(m.in_proj, 2 * D, m.d, true), to_low(m.x_proj, low, D, true), to_dt(m.dt_proj, D, m.R, true), out(m.out_proj, m.d, D, true);
  in_parts(T, a.threads, [&](int64_t from, int64_t to) {
    const int64_t n = to - from;
    product(n, 2 * D, m.d, {m.u + from * m.d, m.d, 1}, in.matrix(), true, m.xz + from * 2 * D, 2 * D);
    for (int64_t t = from; t < to; t++)
      for (int64_t i = 0; i < D; i += W) {
        const int64_t lanes = std::min<int64_t>(W, D - i);
        const vf v = load(m.xz + t * 2 * D + i, lanes);
        store(m.x + t * D + i, v * sigmoid(v), lanes);
      }
    product(n, m.low_row, D, {m.x + from * D, D, 1}, to_low.matrix(), true, m.low + from * m.low_row, m.low_row);
    product(n, D, m.R, {m.low + from * m.low_row, m.low_row, 1}, to_dt.matrix(), true, m.dt + from * D, D);
  });
  lgmamba_forward(&a);
  in_parts(T, a.threads, [&](int64_t from, int64_t to) {
    product(to - from, m.d, D, {a.y + from * D, D, 1}, out.matrix(), true, m.out + from * m.d, m.d);
  });
}

// The gradient of a weight (M, N) is left^T right, summed over the rows; six rows of it are one task. One that is narrower than a
// vector is made transposed.
static void weight_gradient(int64_t T, int64_t M, int64_t N, const float *left, int64_t left_row, const float *right, int64_t right_row, float *to, int64_t threads) {
  if (N < W && N < M) {
    const int64_t stride = Packed::whole(M) * W;
    Vectors turned(N * Packed::whole(M));
    float *from = (float *)turned.p;
    product(N, M, T, {right, 1, right_row}, {left, left_row, 1}, false, from, stride);
    for (int64_t i = 0; i < M; i++)
      for (int64_t j = 0; j < N; j++) to[i * N + j] = from[j * stride + i];
    return;
  }
  parallel((M + 5) / 6, threads, [&](int64_t i) {
    product(std::min<int64_t>(6, M - 6 * i), N, T, {left + 6 * i, 1, left_row}, {right, right_row, 1}, false, to + 6 * i * N, N);
  });
}

extern "C" void lgmamba_mix_backward(const MixArgs *args) {
  const MixArgs &m = *args;
  const Args &a = m.scan;
  const int64_t T = a.B * a.L, D = a.D, N = a.N, R = m.R, low = R + 2 * N;
  if (m.d_out) {
    const Packed out(m.out_proj, m.d, D, false);
    in_parts(T, a.threads, [&](int64_t from, int64_t to) {
      product(to - from, D, m.d, {m.d_out + from * m.d, m.d, 1}, out.matrix(), true, m.dy + from * D, D);
    });
    weight_gradient(T, m.d, D, m.d_out, m.d, a.y, D, m.dout_proj, a.threads);
  }
  lgmamba_backward(&a);
  const Packed in(m.in_proj, 2 * D, m.d, false), to_low(m.x_proj, low, D, false), to_dt(m.dt_proj, D, R, false);
  in_parts(T, a.threads, [&](int64_t from, int64_t to) {
    const int64_t n = to - from;
    product(n, R, D, {a.ddt + from * D, D, 1}, to_dt.matrix(), true, m.dlow + from * m.low_row, m.low_row);
    for (int64_t t = from; t < to; t++) {
      std::memcpy(m.dlow + t * m.low_row + R, a.dBmat + t * N, N * 4);
      std::memcpy(m.dlow + t * m.low_row + R + N, a.dCmat + t * N, N * 4);
    }
    product<true>(n, D, low, {m.dlow + from * m.low_row, m.low_row, 1}, to_low.matrix(), true, a.dx + from * D, D);
    for (int64_t t = from; t < to; t++) {
      float *row = m.dxz + t * 2 * D;
      for (int64_t i = 0; i < D; i += W) {
        const int64_t lanes = std::min<int64_t>(W, D - i);
        const vf v = load(m.xz + t * 2 * D + i, lanes), s = sigmoid(v);
        store(row + i, load(a.dx + t * D + i, lanes) * s * (1.f + v * (1.f - s)), lanes);
      }
      std::memcpy(row + D, a.dz + t * D, D * 4);
    }
    if (m.du) product(n, m.d, 2 * D, {m.dxz + from * 2 * D, 2 * D, 1}, in.matrix(), true, m.du + from * m.d, m.d);
  });
  weight_gradient(T, 2 * D, m.d, m.dxz, 2 * D, m.u, m.d, m.din_proj, a.threads);
  weight_gradient(T, low, D, m.dlow, m.low_row, m.x, D, m.dx_proj, a.threads);
  weight_gradient(T, D, R, a.ddt, D, m.low, m.low_row, m.ddt_proj, a.threads);
}
