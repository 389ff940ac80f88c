// What the forward and the backward pass of `_cpu_kernel.cpp` share: arguments, division into tasks, loads and stores.
// Glossary: lgmamba/scan/__init__.py.

#pragma once

#include "_cpu_simd.h"

// Mirrored field by field by `Args` in cpu_backend.py. Sizes and strides count elements, never bytes.
struct Rows {  // float32 tensor (B, L, last), last axis contiguous
  const float *p;
  int64_t b, t;
  const float *at(int64_t ib, int64_t it) const { return p + ib * b + it * t; }
};
struct Args {
  int64_t B, L, D, N, chunk, states_every, dt_softplus, threads;
  Rows x, dt, z, Bmat, Cmat, dy;
  const float *A, *Dskip, *dt_bias;      // (D, N), (D,), (D,)
  const float *h0, *dlast, *dstates;     // (B, N, D), (B, N, D), (B, L / states_every, N, D); null where absent
  float *y, *last, *states, *checkpoints;
  float *dx, *ddt, *dA, *dBmat, *dCmat, *dDskip, *dz, *dbias, *dh0;  // null where not required
};

struct Plan {
  int64_t blocks, Np, chunks, states, group, groups;  // Np: N rounded up to S; the padded states have A = B = C = 0
  Vectors A2;                                         // A * log2(e) as (block, Np) vectors
  Plan(const Args &a, int64_t min_tasks)
      : blocks((a.D + W - 1) / W), Np((a.N + S - 1) / S * S), chunks((a.L + a.chunk - 1) / a.chunk),
        states(a.states_every ? a.L / a.states_every : 0), A2(blocks * Np) {
    int64_t want = std::min(blocks, (min_tasks + a.B - 1) / a.B);
    group = (blocks + want - 1) / want;  // neighbouring blocks done by one task
    groups = (blocks + group - 1) / group;
    A2.zero();
    for (int64_t d = 0; d < a.D; d++)
      for (int64_t n = 0; n < a.N; n++) A2.p[d / W * Np + n][d % W] = a.A[d * a.N + n] * LOG2E;
  }
  int64_t lanes(const Args &a, int64_t blk) const { return std::min<int64_t>(W, a.D - blk * W); }
  vf *checkpoint(const Args &a, int64_t b, int64_t c, int64_t blk) const {
    return (vf *)a.checkpoints + ((b * chunks + c) * blocks + blk) * Np;
  }
};

// B_t and C_t of one chunk as rows of Np floats.
static void stage(const Rows &r, int64_t b, int64_t t0, int64_t len, int64_t N, int64_t Np, float *out) {
  for (int64_t t = 0; t < len; t++) {
    std::memcpy(out + t * Np, r.at(b, t0 + t), N * 4);
    std::fill(out + t * Np + N, out + (t + 1) * Np, 0.f);
  }
}
// States (N, D) of one sample from and to vectors. Padded lanes and padded states read as zero.
__attribute__((noinline)) static void read_state(const float *src, int64_t D, int64_t N, int64_t d, int64_t lanes, vf *h) {
  for (int64_t n = 0; n < N; n++) h[n] = load(src + n * D + d, lanes);
}
__attribute__((noinline)) static void write_state(float *dst, int64_t D, int64_t N, int64_t d, int64_t lanes, const vf *h) {
  for (int64_t n = 0; n < N; n++) store(dst + n * D + d, h[n], lanes);
}
// Index of the reported state after step t, or -1.
static inline int64_t reported(const Args &a, int64_t t) {
  return a.states_every && (t + 1) % a.states_every == 0 ? (t + 1) / a.states_every - 1 : -1;
}
// One block reads W channels of every row of a chunk, a stride that no processor foresees; so the next block's are asked
// for here. An address that is not there (past the end, an absent z) is ignored.
template <class... P>
static inline void prefetch(P *...rows) { (__builtin_prefetch(rows), ...); }

// Step size of W channels, and the derivative of the softplus (1 without it).
static inline vf step_size(const Args &a, int64_t b, int64_t t, int64_t d, int64_t lanes, vf bias, vf *slope) {
  vf v = load(a.dt.at(b, t) + d, lanes) + bias;
  if (!a.dt_softplus) {
    if (slope) *slope = splat(1.f);
    return v;
  }
  vf u = exp_minus_abs(v);
  if (slope) *slope = sigmoid_of(v, u);
  return softplus_of(v, u);
}
