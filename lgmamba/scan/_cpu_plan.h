// What the forward and the backward pass of `_cpu_kernel.cpp` share: arguments, division into tasks, loads and stores.
// Glossary: lgmamba/scan/__init__.py.

#pragma once

#include "_cpu_simd.h"

// Mirrored field by field by `Args` in cpu_backend.py. Sizes and strides count elements, never bytes.
struct Rows {  // float32 tensor (B, L, last) or (B, L, G, last), last axis contiguous
  const float *p;
  int64_t b, t, g;
  const float *at(int64_t ib, int64_t it, int64_t ig = 0) const { return p + ib * b + it * t + ig * g; }
};
struct Args {
  int64_t B, L, D, G, N, chunk, stretch, states_every, dt_softplus, threads;
  Rows x, dt, z, Bmat, Cmat, dy;
  const float *A, *Dskip, *dt_bias;      // (D, N), (D,), (D,); the last two null where absent
  const float *h0, *dlast, *dstates;     // (B, N, D), (B, N, D), (B, L / states_every, N, D); null where absent
  float *y, *last, *states, *checkpoints;
  float *dx, *ddt, *dA, *dBmat, *dCmat, *dDskip, *dz, *dbias, *dh0;  // null where not required
};

// A block never holds channels of two groups, and everything below that a sum's order depends on is a group's own: a
// group's bits are those of a call that has this group alone.
struct Plan {
  int64_t wide, blocks;           // channels, blocks of one group
  int64_t Np, chunks, states;     // Np: N rounded up to S; the padded states have A = B = C = 0
  int64_t stretches, kept;        // stretches of a whole chunk, and of all: each begins at a state that is kept
  int64_t share, shares;          // neighbouring blocks done by one task, tasks for one group and sample
  Vectors A2;                     // A * log2(e) as (block, Np) vectors
  Plan(const Args &a, int64_t min_tasks)
      : wide(a.D / a.G), blocks((wide + W - 1) / W), Np((a.N + S - 1) / S * S), chunks((a.L + a.chunk - 1) / a.chunk),
        states(a.states_every ? a.L / a.states_every : 0), stretches((a.chunk + a.stretch - 1) / a.stretch),
        kept(a.L / a.chunk * stretches + (a.L % a.chunk + a.stretch - 1) / a.stretch), A2(a.G * blocks * Np) {
    int64_t want = std::min(blocks, (min_tasks + a.B - 1) / a.B);
    share = (blocks + want - 1) / want;
    shares = (blocks + share - 1) / share;
    A2.zero();
    for (int64_t blk = 0; blk < a.G * blocks; blk++)
      for (int64_t i = 0; i < lanes(blk); i++)
        for (int64_t n = 0; n < a.N; n++) A2.p[blk * Np + n][i] = a.A[(first(blk) + i) * a.N + n] * LOG2E;
  }
  // Blocks are counted through all groups.
  int64_t first(int64_t blk) const { return blk / blocks * wide + blk % blocks * W; }  // channel
  int64_t lanes(int64_t blk) const { return std::min<int64_t>(W, wide - blk % blocks * W); }
  vf *checkpoint(const Args &a, int64_t b, int64_t c, int64_t stretch, int64_t blk) const {
    return (vf *)a.checkpoints + ((b * kept + c * stretches + stretch) * a.G * blocks + blk) * Np;
  }
};
// What one task does: the blocks blk0 .. blk1 - 1 of a group, which is share number `share` of it.
struct Share {
  int64_t group, share, blk0, blk1;
  Share(const Plan &p, int64_t i)
      : group(i / p.shares), share(i % p.shares), blk0(group * p.blocks + share * p.share),
        blk1(std::min(blk0 + p.share, (group + 1) * p.blocks)) {}
};

// B_t and C_t of one group and chunk as rows of Np floats.
static void stage(const Rows &r, int64_t b, int64_t t0, int64_t g, int64_t len, int64_t N, int64_t Np, float *out) {
  for (int64_t t = 0; t < len; t++) {
    std::memcpy(out + t * Np, r.at(b, t0 + t, g), N * 4);
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
