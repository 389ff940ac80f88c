// The selective scan on a CPU, forward and backward. Glossary and recurrence: lgmamba/scan/__init__.py.
//
// Channels are the SIMD axis: a `vf` holds one quantity for W neighbouring channels (one "block"), so every operation of
// the recurrence is element-wise and B_t, C_t are broadcast scalars. Time is cut in chunks of `chunk` steps. Within
// (chunk, block) the states are worked off four at a time with time as the inner loop, so that four states, four rows of A
// and their gradients stay in registers and what one chunk recomputes stays in the L1 cache.
//
// The forward pass keeps the state at the start of each chunk. The backward pass walks the chunks from the last to the
// first and recomputes their states from there: no (B, L, D, N) array exists anywhere.
//
// Every sum has an order fixed by the shapes alone, so the bits do not depend on the number of threads.
//
// Built by cpu_build.py with whatever C++ compiler is there; no header but the standard library's.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>
#ifdef __x86_64__
#include <immintrin.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#else
#include <atomic>
#include <thread>
#endif

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif
constexpr int S = 4;  // states worked off together

typedef float vf __attribute__((vector_size(4 * W)));
typedef uint32_t vi __attribute__((vector_size(4 * W)));

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
extern "C" int64_t lgmamba_args_size() { return sizeof(Args); }
extern "C" int64_t lgmamba_lanes() { return W; }

// ---- vectors ---------------------------------------------------------------------------------------------------------

static inline vf splat(float a) { return a + vf{}; }

static inline vf load(const float *p, int64_t lanes) {  // `lanes` < W only in the last block; the rest reads as zero
  vf v = {};
  if (lanes == W) std::memcpy(&v, p, sizeof v);
  else std::memcpy(&v, p, lanes * 4);
  return v;
}
static inline void store(float *p, vf v, int64_t lanes) {
  if (lanes == W) std::memcpy(p, &v, sizeof v);
  else std::memcpy(p, &v, lanes * 4);
}
static inline vf vmin(vf a, vf b) {  // b where either is NaN
#if defined(__AVX512F__)
  return (vf)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX__)
  return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#else
  return a < b ? a : b;
#endif
}
static inline vf vmax(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX__)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
static inline float hsum(vf v) {  // halving tree: a fixed order
  float a[W];
  std::memcpy(a, &v, sizeof v);
  for (int w = W / 2; w; w /= 2)
    for (int i = 0; i < w; i++) a[i] += a[i + w];
  return a[0];
}

// 2^p; exactly 1 at p = 0, so that dt = 0 leaves the state as it was. |p| > 126 saturates. Relative error < 1.5e-7:
// p = n + r, |r| <= 1/2, a minimax polynomial in r with its constant fixed at 1, and n added to the exponent's bits.
static inline vf exp2v(vf p) {
  const float magic = 12582912.f;  // 1.5 * 2^23: adding it rounds to an integer that sits in the low bits
  p = vmax(splat(-126.f), vmin(splat(126.f), p));
  vf shifted = p + magic;
  vf r = p - (shifted - magic);
  vf q = 0.0013265125f * r + 0.0096715f;
  q = q * r + 0.05550732f;
  q = q * r + 0.24022242f;
  q = q * r + 0.693147f;
  q = q * r + 1.f;
  return (vf)((vi)q + ((vi)shifted << 23));
}

constexpr float LOG2E = 1.44269504f, LN2 = 0.693147181f;

static inline vf vabs(vf v) { return (vf)((vi)v & 0x7fffffffu); }
static inline vf sigmoid_of(vf v, vf u) { return (v >= 0.f ? splat(1.f) : u) / (1.f + u); }  // u = exp(-|v|)
static inline vf exp_minus_abs(vf v) { return exp2v(vabs(v) * -LOG2E); }
static inline vf sigmoid(vf v) { return sigmoid_of(v, exp_minus_abs(v)); }
static inline vf softplus_of(vf v, vf u) {  // max(v, 0) + log1p(u), with log1p(u) = 2 atanh(u / (2 + u))
  vf s = u / (2.f + u), s2 = s * s;
  vf q = 0.28178334f * s2 + 0.27960604f;
  q = q * s2 + 0.4002491f;
  q = q * s2 + 0.66666317f;
  q = q * s2 + 2.f;
  return vmax(vf{}, v) + s * q;
}

// ---- threads and scratch ---------------------------------------------------------------------------------------------

struct FlushDenormals {  // a state that decays would pass through denormals, which some processors handle slowly
#ifdef __x86_64__
  unsigned saved = _mm_getcsr();
  FlushDenormals() { _mm_setcsr(saved | 0x8040); }
  ~FlushDenormals() { _mm_setcsr(saved); }
#endif
};

template <class F>
static void parallel(int64_t tasks, int64_t threads, F task) {  // order and thread of the tasks are free
  threads = std::max<int64_t>(1, std::min(threads, tasks));
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
  {
    FlushDenormals flush;
#pragma omp for schedule(dynamic, 1)
    for (int64_t i = 0; i < tasks; i++) task(i);
  }
#else
  std::atomic<int64_t> next{0};
  auto work = [&] {
    FlushDenormals flush;
    for (int64_t i; (i = next++) < tasks;) task(i);
  };
  std::vector<std::thread> pool;
  for (int64_t i = 1; i < threads; i++) pool.emplace_back(work);
  work();
  for (auto &t : pool) t.join();
#endif
}

struct Scratch {  // 64-byte aligned, zeroed
  vf *p;
  explicit Scratch(int64_t n) : p((vf *)::operator new(n * sizeof(vf), std::align_val_t(64))) { std::memset(p, 0, n * sizeof(vf)); }
  ~Scratch() { ::operator delete(p, std::align_val_t(64)); }
  Scratch(const Scratch &) = delete;
};

// ---- what both passes share ------------------------------------------------------------------------------------------

struct Plan {
  int64_t blocks, Np, chunks, states, group, groups;  // Np: N rounded up to S; the padded states have A = B = C = 0
  Scratch A2;                                         // A * log2(e) as (block, Np) vectors
  Plan(const Args &a, int64_t min_tasks)
      : blocks((a.D + W - 1) / W), Np((a.N + S - 1) / S * S), chunks((a.L + a.chunk - 1) / a.chunk),
        states(a.states_every ? a.L / a.states_every : 0), A2(blocks * Np) {
    int64_t want = std::min(blocks, (min_tasks + a.B - 1) / a.B);
    group = (blocks + want - 1) / want;  // neighbouring blocks done by one task
    groups = (blocks + group - 1) / group;
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
  for (int64_t t = 0; t < len; t++) std::memcpy(out + t * Np, r.at(b, t0 + t), N * 4);
}
// States (N, D) of one sample from and to vectors. Padded lanes and padded states read as zero.
static void read_state(const float *src, int64_t D, int64_t N, int64_t d, int64_t lanes, vf *h) {
  for (int64_t n = 0; n < N; n++) h[n] = load(src + n * D + d, lanes);
}
static void write_state(float *dst, int64_t D, int64_t N, int64_t d, int64_t lanes, const vf *h) {
  for (int64_t n = 0; n < N; n++) store(dst + n * D + d, h[n], lanes);
}
// Index of the reported state after step t, or -1.
static inline int64_t reported(const Args &a, int64_t t) {
  return a.states_every && (t + 1) % a.states_every == 0 ? (t + 1) / a.states_every - 1 : -1;
}
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

// ---- forward ---------------------------------------------------------------------------------------------------------

static void forward_task(const Args &a, const Plan &p, int64_t b, int64_t blk0, int64_t blk1) {
  const int64_t Np = p.Np, K = a.chunk;
  Scratch h((blk1 - blk0) * Np), per_step(3 * K), staged((2 * K * Np + W - 1) / W);
  vf *dt = per_step.p, *dtx = dt + K, *s = dtx + K;
  float *Bm = (float *)staged.p, *Cm = Bm + K * Np;
  std::vector<int64_t> report(K);

  if (a.h0)
    for (int64_t blk = blk0; blk < blk1; blk++)
      read_state(a.h0 + b * a.N * a.D, a.D, a.N, blk * W, p.lanes(a, blk), h.p + (blk - blk0) * Np);

  for (int64_t c = 0; c < p.chunks; c++) {
    const int64_t t0 = c * K, len = std::min(K, a.L - t0);
    stage(a.Bmat, b, t0, len, a.N, Np, Bm);
    stage(a.Cmat, b, t0, len, a.N, Np, Cm);
    for (int64_t t = 0; t < len; t++) report[t] = reported(a, t0 + t);

    for (int64_t blk = blk0; blk < blk1; blk++) {
      const int64_t d = blk * W, lanes = p.lanes(a, blk);
      vf *hb = h.p + (blk - blk0) * Np;
      const vf *A2 = p.A2.p + blk * Np;
      const vf skip = load(a.Dskip + d, lanes), bias = a.dt_bias ? load(a.dt_bias + d, lanes) : vf{};
      if (a.checkpoints) std::memcpy(p.checkpoint(a, b, c, blk), hb, Np * sizeof(vf));
      for (int64_t t = 0; t < len; t++) {
        vf x = load(a.x.at(b, t0 + t) + d, lanes);
        dt[t] = step_size(a, b, t0 + t, d, lanes, bias, nullptr);
        dtx[t] = dt[t] * x;
        s[t] = skip * x;
      }
      for (int64_t n = 0; n < Np; n += S) {
        vf g[S], An[S];
        for (int i = 0; i < S; i++) g[i] = hb[n + i], An[i] = A2[n + i];
        for (int64_t t = 0; t < len; t++) {
          const float *Bt = Bm + t * Np + n, *Ct = Cm + t * Np + n;
          vf acc = s[t];
          for (int i = 0; i < S; i++) {
            g[i] = exp2v(dt[t] * An[i]) * g[i] + dtx[t] * Bt[i];
            acc += g[i] * Ct[i];
          }
          s[t] = acc;
          if (report[t] >= 0)
            write_state(a.states + ((b * p.states + report[t]) * a.N + n) * a.D, a.D, std::min<int64_t>(S, a.N - n), d, lanes, g);
        }
        for (int i = 0; i < S; i++) hb[n + i] = g[i];
      }
      for (int64_t t = 0; t < len; t++) {
        vf y = s[t];
        if (a.z.p) {
          vf z = load(a.z.at(b, t0 + t) + d, lanes);
          y *= z * sigmoid(z);
        }
        store(a.y + (b * a.L + t0 + t) * a.D + d, y, lanes);
      }
    }
  }
  if (a.last)
    for (int64_t blk = blk0; blk < blk1; blk++)
      write_state(a.last + b * a.N * a.D, a.D, a.N, blk * W, p.lanes(a, blk), h.p + (blk - blk0) * Np);
}

extern "C" void lgmamba_forward(const Args *args) {
  const Args &a = *args;
  Plan p(a, 128);
  parallel(a.B * p.groups, a.threads, [&](int64_t i) {
    int64_t g = i % p.groups;
    forward_task(a, p, i / p.groups, g * p.group, std::min(p.blocks, (g + 1) * p.group));
  });
}

// ---- backward --------------------------------------------------------------------------------------------------------

// Sums over samples: one row per slot of neighbouring samples, added up at the end in the order of the slots.
struct Partials {
  int64_t slots;
  Scratch A, skip, bias;  // (slot, block, Np), (slot, block), (slot, block)
  Partials(const Plan &p, int64_t slots) : slots(slots), A(slots * p.blocks * p.Np), skip(slots * p.blocks), bias(slots * p.blocks) {}
};

struct BackwardTask {
  const Args &a;
  const Plan &p;
  Partials &sums;
  const int64_t slot, grp, blk0, blk1, nblk, Np, K;
  const bool through_state, to_BC;
  float *const dBpart, *const dCpart;
  Scratch carry, per_step, recomputed, wide, staged;
  vf *x, *dt, *slope, *dtx, *ds, *dy, *gate, *s, *q, *w;  // one vector per step of the chunk
  vf *hs, *as;                                            // (K + 1, S) states, (K, S) decays of the states at hand
  vf *accB, *accC;                                        // (K, Np), lanes not yet summed
  float *Bm, *Cm;
  std::vector<int64_t> report;

  BackwardTask(const Args &a, const Plan &p, Partials &sums, int64_t slot, int64_t grp, float *dBp, float *dCp)
      : a(a), p(p), sums(sums), slot(slot), grp(grp), blk0(grp * p.group), blk1(std::min(p.blocks, blk0 + p.group)), nblk(blk1 - blk0),
        Np(p.Np), K(a.chunk), through_state(a.dx || a.ddt || a.dA || a.dBmat || a.dbias || a.dh0), to_BC(a.dBmat || a.dCmat),
        dBpart(dBp), dCpart(dCp), carry(nblk * Np), per_step(10 * K), recomputed((2 * K + 1) * S), wide(2 * K * Np),
        staged((2 * K * Np + W - 1) / W), report(K) {
    vf **all[] = {&x, &dt, &slope, &dtx, &ds, &dy, &gate, &s, &q, &w};
    for (int i = 0; i < 10; i++) *all[i] = per_step.p + i * K;
    hs = recomputed.p, as = hs + (K + 1) * S;
    accB = wide.p, accC = accB + K * Np;
    Bm = (float *)staged.p, Cm = Bm + K * Np;
  }

  void sample(int64_t b) {
    std::memset(carry.p, 0, nblk * Np * sizeof(vf));
    if (a.dlast)
      for (int64_t blk = blk0; blk < blk1; blk++)
        read_state(a.dlast + b * a.N * a.D, a.D, a.N, blk * W, p.lanes(a, blk), carry.p + (blk - blk0) * Np);
    for (int64_t c = p.chunks - 1; c >= 0; c--) chunk(b, c);
    if (a.dh0)
      for (int64_t blk = blk0; blk < blk1; blk++)
        write_state(a.dh0 + b * a.N * a.D, a.D, a.N, blk * W, p.lanes(a, blk), carry.p + (blk - blk0) * Np);
  }

  void chunk(int64_t b, int64_t c) {
    const int64_t t0 = c * K, len = std::min(K, a.L - t0);
    stage(a.Bmat, b, t0, len, a.N, Np, Bm);
    stage(a.Cmat, b, t0, len, a.N, Np, Cm);
    for (int64_t t = 0; t < len; t++) report[t] = a.dstates ? reported(a, t0 + t) : -1;
    if (to_BC) std::memset(accB, 0, 2 * K * Np * sizeof(vf));
    for (int64_t blk = blk0; blk < blk1; blk++) {
      load_steps(b, t0, len, blk);
      const vf *start = p.checkpoint(a, b, c, blk);
      for (int64_t n = 0; n < Np; n += S) {
        recompute(len, n, blk, start + n);
        if (through_state) to_BC ? reverse<true>(b, len, n, blk) : reverse<false>(b, len, n, blk);
      }
      store_steps(b, t0, len, blk);
    }
    if (!to_BC) return;
    for (int64_t t = 0; t < len; t++)
      for (int64_t n = 0; n < a.N; n++) {
        int64_t to = ((grp * a.B + b) * a.L + t0 + t) * a.N + n;
        if (dBpart) dBpart[to] = hsum(accB[t * Np + n]);
        if (dCpart) dCpart[to] = hsum(accC[t * Np + n]);
      }
  }

  void load_steps(int64_t b, int64_t t0, int64_t len, int64_t blk) {
    const int64_t d = blk * W, lanes = p.lanes(a, blk);
    const vf skip = load(a.Dskip + d, lanes), bias = a.dt_bias ? load(a.dt_bias + d, lanes) : vf{};
    for (int64_t t = 0; t < len; t++) {
      x[t] = load(a.x.at(b, t0 + t) + d, lanes);
      dt[t] = step_size(a, b, t0 + t, d, lanes, bias, &slope[t]);
      dtx[t] = dt[t] * x[t];
      dy[t] = a.dy.p ? load(a.dy.at(b, t0 + t) + d, lanes) : vf{};
      s[t] = skip * x[t];
      q[t] = w[t] = vf{};
      if (a.z.p) {
        vf z = load(a.z.at(b, t0 + t) + d, lanes), sig = sigmoid(z);
        ds[t] = dy[t] * z * sig;
        gate[t] = sig * (1.f + z * (1.f - sig));  // derivative of SiLU
      } else {
        ds[t] = dy[t];
      }
    }
  }

  // States n .. n + S - 1 over the chunk, from its checkpoint; on the way the sums that need the state only.
  void recompute(int64_t len, int64_t n, int64_t blk, const vf *start) {
    const vf *A2 = p.A2.p + blk * Np + n;
    vf h[S], An[S];
    for (int i = 0; i < S; i++) h[i] = hs[i] = start[i], An[i] = A2[i];
    for (int64_t t = 0; t < len; t++) {
      const float *Bt = Bm + t * Np + n, *Ct = Cm + t * Np + n;
      vf acc = s[t];
      for (int i = 0; i < S; i++) {
        vf e = exp2v(dt[t] * An[i]);
        as[t * S + i] = e;
        h[i] = e * h[i] + dtx[t] * Bt[i];
        hs[(t + 1) * S + i] = h[i];
        acc += h[i] * Ct[i];
      }
      s[t] = acc;
      if (to_BC)
        for (int i = 0; i < S; i++) accC[t * Np + n + i] += h[i] * ds[t];
    }
  }

  // g = d loss / d h_t, carried against time.
  template <bool BC>
  void reverse(int64_t b, int64_t len, int64_t n, int64_t blk) {
    const int64_t d = blk * W, lanes = p.lanes(a, blk);
    const vf *A2 = p.A2.p + blk * Np + n;
    vf *carried = carry.p + (blk - blk0) * Np + n;
    vf g[S], An[S], dA[S];
    for (int i = 0; i < S; i++) g[i] = carried[i], An[i] = A2[i], dA[i] = vf{};
    for (int64_t t = len - 1; t >= 0; t--) {
      const float *Bt = Bm + t * Np + n, *Ct = Cm + t * Np + n;
      if (report[t] >= 0) {
        vf extra[S] = {};
        read_state(a.dstates + ((b * p.states + report[t]) * a.N + n) * a.D, a.D, std::min<int64_t>(S, a.N - n), d, lanes, extra);
        for (int i = 0; i < S; i++) g[i] += extra[i];
      }
      vf qt = q[t], wt = w[t];
      for (int i = 0; i < S; i++) {
        g[i] += Ct[i] * ds[t];
        if (BC) accB[t * Np + n + i] += g[i] * dtx[t];
        qt += g[i] * Bt[i];
        g[i] *= as[t * S + i];
        vf decay = g[i] * hs[t * S + i];  // d loss / d (dt A)
        wt += decay * An[i];
        dA[i] += decay * dt[t];
      }
      q[t] = qt, w[t] = wt;
    }
    vf *total = sums.A.p + (slot * p.blocks + blk) * Np + n;
    for (int i = 0; i < S; i++) carried[i] = g[i], total[i] += dA[i];
  }

  void store_steps(int64_t b, int64_t t0, int64_t len, int64_t blk) {
    const int64_t d = blk * W, lanes = p.lanes(a, blk);
    const vf skip = load(a.Dskip + d, lanes);
    vf to_skip = {}, to_bias = {};
    for (int64_t t = 0; t < len; t++) {
      const int64_t at = (b * a.L + t0 + t) * a.D + d;
      vf raw = (q[t] * x[t] + w[t] * LN2) * slope[t];
      to_skip += ds[t] * x[t];
      to_bias += raw;
      if (a.dx) store(a.dx + at, q[t] * dt[t] + ds[t] * skip, lanes);
      if (a.ddt) store(a.ddt + at, raw, lanes);
      if (a.dz) store(a.dz + at, dy[t] * s[t] * gate[t], lanes);
    }
    sums.skip.p[slot * p.blocks + blk] += to_skip;
    sums.bias.p[slot * p.blocks + blk] += to_bias;
  }
};

static void add_up(const Args &a, const Plan &p, const Partials &sums, int64_t blk) {
  vf total;
  auto over_slots = [&](const vf *first, int64_t stride) {
    total = vf{};
    for (int64_t slot = 0; slot < sums.slots; slot++) total += first[slot * stride];
  };
  const int64_t d = blk * W, lanes = p.lanes(a, blk);
  if (a.dA)
    for (int64_t n = 0; n < a.N; n++) {
      over_slots(sums.A.p + blk * p.Np + n, p.blocks * p.Np);
      for (int64_t i = 0; i < lanes; i++) a.dA[(d + i) * a.N + n] = total[i];
    }
  if (a.dDskip) over_slots(sums.skip.p + blk, p.blocks), store(a.dDskip + d, total, lanes);
  if (a.dbias) over_slots(sums.bias.p + blk, p.blocks), store(a.dbias + d, total, lanes);
}

extern "C" void lgmamba_backward(const Args *args) {
  const Args &a = *args;
  Plan p(a, 32);
  const int64_t slots = std::min<int64_t>(a.B, 128), BLN = a.B * a.L * a.N;
  Partials sums(p, slots);
  // Groups of blocks each write their own share of dB and dC; a single group writes the result.
  std::vector<float> dB(p.groups > 1 && a.dBmat ? p.groups * BLN : 0), dC(p.groups > 1 && a.dCmat ? p.groups * BLN : 0);
  float *dBp = dB.empty() ? a.dBmat : dB.data(), *dCp = dC.empty() ? a.dCmat : dC.data();
  parallel(slots * p.groups, a.threads, [&](int64_t i) {
    const int64_t slot = i / p.groups;
    BackwardTask task(a, p, sums, slot, i % p.groups, dBp, dCp);
    for (int64_t b = slot * a.B / slots; b < (slot + 1) * a.B / slots; b++) task.sample(b);
  });
  parallel(p.blocks, a.threads, [&](int64_t blk) { add_up(a, p, sums, blk); });
  if (p.groups == 1) return;
  parallel(a.B, a.threads, [&](int64_t b) {
    for (int64_t i = b * a.L * a.N; i < (b + 1) * a.L * a.N; i++) {
      float tB = 0, tC = 0;
      for (int64_t g = 0; g < p.groups; g++) {
        if (a.dBmat) tB += dB[g * BLN + i];
        if (a.dCmat) tC += dC[g * BLN + i];
      }
      if (a.dBmat) a.dBmat[i] = tB;
      if (a.dCmat) a.dCmat[i] = tC;
    }
  });
}
