// The selective scan on a CPU, forward and backward. Glossary and recurrence: lgmamba/scan/__init__.py.
//
// Channels are the SIMD axis: a `vf` holds one quantity for W neighbouring channels (one "block"), so every operation of
// the recurrence is element-wise and B_t, C_t are broadcast scalars. Time is cut in chunks of `chunk` steps, and these in
// stretches of `stretch`. Within (chunk, block) the states are worked off four at a time with time as the inner loop, so
// that four states, four rows of A and their gradients stay in registers.
//
// The forward pass keeps the state at the start of each stretch. The backward pass walks the stretches from the last to
// the first and recomputes their states from there: no (B, L, D, N) array exists anywhere, and what one stretch recomputes
// stays in the L1 cache. What is read, staged and summed once for several steps is so by the chunk.
//
// Every sum has an order fixed by the shapes alone, so the bits do not depend on the number of threads.
//
// Built by cpu_build.py with whatever C++ compiler is there; no header but the standard library's.

#include <type_traits>

#include "_cpu_plan.h"

#include "_cpu_mix.h"

extern "C" int64_t lgmamba_args_size() { return sizeof(Args); }  // for tests
extern "C" int64_t lgmamba_lanes() { return W; }

// ---- forward ---------------------------------------------------------------------------------------------------------

// PLAIN: only whole blocks, and no states to report. The number of lanes is then known to the compiler and no loop calls a
// function, for which vectors would have to leave their registers.
template <bool PLAIN>
static void forward_task(const Args &a, const Plan &p, int64_t b, const Share &mine) {
  const int64_t Np = p.Np, K = a.chunk, blk0 = mine.blk0, blk1 = mine.blk1;
  Workspace work((blk1 - blk0) * Np + 3 * K + 2 * K * Np);
  vf *h = work.take((blk1 - blk0) * Np), *dt = work.take(K), *dtx = work.take(K), *s = work.take(K);
  float *Bm = work.take_floats(K * Np), *Cm = work.take_floats(K * Np);
  std::vector<int64_t> report(K);

  std::memset(h, 0, (blk1 - blk0) * Np * sizeof(vf));
  if (a.h0)
    for (int64_t blk = blk0; blk < blk1; blk++)
      read_state(a.h0 + b * a.N * a.D, a.D, a.N, p.first(blk), p.lanes(blk), h + (blk - blk0) * Np);

  for (int64_t c = 0; c < p.chunks; c++) {
    const int64_t t0 = c * K, len = std::min(K, a.L - t0);
    stage(a.Bmat, b, t0, mine.group, len, a.N, Np, Bm);
    stage(a.Cmat, b, t0, mine.group, len, a.N, Np, Cm);
    for (int64_t t = 0; t < len; t++) report[t] = reported(a, t0 + t);

    for (int64_t blk = blk0; blk < blk1; blk++) {
      const int64_t d = p.first(blk), lanes = PLAIN ? W : p.lanes(blk);
      vf *hb = h + (blk - blk0) * Np;
      const vf *A2 = p.A2.p + blk * Np;
      const vf skip = vector_or_zero(a.Dskip, d, lanes), bias = vector_or_zero(a.dt_bias, d, lanes);
      for (int64_t t = 0; t < len; t++) {
        const int64_t next = d + W;
        prefetch(a.x.at(b, t0 + t) + next, a.dt.at(b, t0 + t) + next, a.z.at(b, t0 + t) + next);
        vf x = load(a.x.at(b, t0 + t) + d, lanes);
        dt[t] = step_size(a, b, t0 + t, d, lanes, bias, nullptr);
        dtx[t] = dt[t] * x;
        s[t] = skip * x;
      }
      for (int64_t n = 0; n < Np; n += S) {
        vf g[S], An[S];
        for (int i = 0; i < S; i++) g[i] = hb[n + i], An[i] = A2[n + i];
        for (int64_t i = 0, t = 0; t < len; i++) {
          if (a.checkpoints) std::copy(g, g + S, p.checkpoint(a, b, c, i, blk) + n);
          for (const int64_t end = std::min(len, t + a.stretch); t < end; t++) {
            const float *Bt = Bm + t * Np + n, *Ct = Cm + t * Np + n;
            vf acc = s[t];
            for (int i = 0; i < S; i++) {
              g[i] = exp2v(dt[t] * An[i]) * g[i] + dtx[t] * Bt[i];
              acc += g[i] * Ct[i];
            }
            s[t] = acc;
            if (!PLAIN && report[t] >= 0) {
              vf copy[S];  // g itself stays in registers
              std::copy(g, g + S, copy);
              float *to = a.states + ((b * p.states + report[t]) * a.N + n) * a.D;
              write_state(to, a.D, std::min<int64_t>(S, a.N - n), d, lanes, copy);
            }
          }
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
      write_state(a.last + b * a.N * a.D, a.D, a.N, p.first(blk), p.lanes(blk), h + (blk - blk0) * Np);
}

extern "C" void lgmamba_forward(const Args *args) {
  const Args &a = *args;
  Plan p(a, 128);
  prefer_huge_pages(a.y, a.B * a.L * a.D * 4);
  prefer_huge_pages(a.states, a.B * p.states * a.N * a.D * 4);
  prefer_huge_pages(a.checkpoints, a.B * p.kept * a.G * p.blocks * p.Np * sizeof(vf));
  const int64_t shares = a.G * p.shares;
  const auto task = p.wide % W || a.states_every ? forward_task<false> : forward_task<true>;
  parallel(a.B * shares, a.threads, [&](int64_t i) { task(a, p, i / shares, Share(p, i % shares)); });
}

// ---- backward --------------------------------------------------------------------------------------------------------

// Sums over samples: one row per slot of neighbouring samples, added up at the end in the order of the slots.
struct Partials {
  int64_t slots, blocks;
  Vectors A, skip, bias;  // (slot, block, Np), (slot, block), (slot, block)
  Partials(const Args &a, const Plan &p, int64_t slots)
      : slots(slots), blocks(a.G * p.blocks), A(slots * blocks * p.Np), skip(slots * blocks), bias(slots * blocks) {
    A.zero(), skip.zero(), bias.zero();
  }
};

// Vectors between arrays that one loop writes and reads at the same pace. Where two addresses are a multiple of 4 KiB apart, as they
// would often be, x86 processors take a read of one for a read of what was just written to the other, and wait.
constexpr int APART = 16;

template <bool PLAIN>
struct BackwardTask {
  const Args &a;
  const Plan &p;
  Partials &sums;
  const Share mine;
  const int64_t slot, blk0, blk1, nblk, Np, K, M;  // K, M: steps of a chunk, of a stretch
  const bool through_state, to_BC;
  float *const dBpart, *const dCpart;
  Workspace work;
  vf *carry;                                              // (block, Np) d loss / d h, carried against time
  vf *dA, *to_skip, *to_bias;                             // (block, Np), (block, K), (block, K): terms of sums over the chunk
  vf *x, *dt, *slope, *dtx, *ds, *dy, *gate, *s, *q, *w;  // one vector per step of the stretch
  vf *hs, *as;                                            // (M + 1, S) states, (M, S) decays of the states at hand
  vf *accB, *accC;                                        // (Np / S, steps, S), lanes not yet summed
  float *Bm, *Cm;                                         // (M, Np)
  std::vector<int64_t> report;

  BackwardTask(const Args &a, const Plan &p, Partials &sums, int64_t slot, const Share &mine, float *dBp, float *dCp)
      : a(a), p(p), sums(sums), mine(mine), slot(slot), blk0(mine.blk0), blk1(mine.blk1), nblk(blk1 - blk0), Np(p.Np), K(a.chunk), M(a.stretch), through_state(a.dx || a.ddt || a.dA || a.dBmat || a.dbias || a.dh0), to_BC(a.dBmat || a.dCmat),
        dBpart(dBp), dCpart(dCp), work(2 * nblk * (Np + K) + 10 * M + (2 * M + 1) * S + 4 * M * Np + 3 * APART + W), report(M) {
    carry = work.take(nblk * Np), dA = work.take(nblk * Np), to_skip = work.take(nblk * K), to_bias = work.take(nblk * K);
    for (vf **each : {&x, &dt, &slope, &dtx, &ds, &dy, &gate, &s, &q, &w}) *each = work.take(M);
    hs = work.take((M + 1) * S + APART), as = work.take(M * S + APART), accB = work.take(M * Np + APART), accC = work.take(M * Np + W);
    Bm = work.take_floats(M * Np), Cm = work.take_floats(M * Np);
  }

  void sample(int64_t b) {
    std::memset(carry, 0, nblk * Np * sizeof(vf));
    if (a.dlast)
      for (int64_t blk = blk0; blk < blk1; blk++)
        read_state(a.dlast + b * a.N * a.D, a.D, a.N, p.first(blk), p.lanes(blk), carry + (blk - blk0) * Np);
    for (int64_t c = p.chunks - 1; c >= 0; c--) chunk(b, c);
    if (a.dh0)
      for (int64_t blk = blk0; blk < blk1; blk++)
        write_state(a.dh0 + b * a.N * a.D, a.D, a.N, p.first(blk), p.lanes(blk), carry + (blk - blk0) * Np);
  }

  void chunk(int64_t b, int64_t c) {
    const int64_t t0 = c * K, len = std::min(K, a.L - t0);
    std::fill(dA, dA + nblk * Np, vf{});
    for (int64_t i = (len - 1) / M; i >= 0; i--) stretch(b, c, i, t0 + i * M, std::min(M, len - i * M));
    for (int64_t blk = blk0; blk < blk1; blk++) {
      vf *total = sums.A.p + (slot * sums.blocks + blk) * Np, skip = {}, bias = {};
      for (int64_t n = 0; n < Np; n++) total[n] += dA[(blk - blk0) * Np + n];
      for (int64_t t = 0; t < len; t++) {
        skip += to_skip[(blk - blk0) * K + t] * load(a.x.at(b, t0 + t) + p.first(blk), PLAIN ? W : p.lanes(blk));
        bias += to_bias[(blk - blk0) * K + t];
      }
      sums.skip.p[slot * sums.blocks + blk] += skip;
      sums.bias.p[slot * sums.blocks + blk] += bias;
    }
  }

  void stretch(int64_t b, int64_t c, int64_t i, int64_t t0, int64_t len) {
    stage(a.Bmat, b, t0, mine.group, len, a.N, Np, Bm);
    stage(a.Cmat, b, t0, mine.group, len, a.N, Np, Cm);
    for (int64_t t = 0; t < len; t++) report[t] = a.dstates ? reported(a, t0 + t) : -1;
    for (int64_t blk = blk0; blk < blk1; blk++) {
      load_steps(b, t0, len, blk);
      const vf *start = p.checkpoint(a, b, c, i, blk);
      for (int64_t n = 0; n < Np; n += S) {
        if (!to_BC) states<NONE>(b, len, n, blk, start + n);
        else if (blk == blk0) states<SET>(b, len, n, blk, start + n);
        else states<ADD>(b, len, n, blk, start + n);
      }
      store_steps(b, t0, len, blk, (blk - blk0) * K + i * M);
    }
    if (dBpart) write_sums(accB, Bm, dBpart, b, t0, len);
    if (dCpart) write_sums(accC, Cm, dCpart, b, t0, len);
  }

  // Sums over the lanes of `of` to a share's rows of dB or dC. `sums` takes them on the way.
  void write_sums(const vf *of, float *sums, float *part, int64_t b, int64_t t0, int64_t len) {
    for (int64_t i = 0; i < len * Np; i += W) hsums(of + i, sums + i);  // the last ones with whatever lies behind
    for (int64_t t = 0; t < len; t++) {
      float *row = part + (((mine.share * a.B + b) * a.L + t0 + t) * a.G + mine.group) * a.N;
      for (int64_t n = 0; n < a.N; n += S) std::memcpy(row + n, sums + n * len + t * S, std::min<int64_t>(S, a.N - n) * 4);
    }
  }

  // The first block of a share sets the sums for dB and dC, the others add to them.
  enum Sums { NONE, SET, ADD };
  static void into(vf &sum, vf term, Sums how) { sum = how == ADD ? sum + term : term; }

  template <Sums BC>
  void states(int64_t b, int64_t len, int64_t n, int64_t blk, const vf *start) {
    recompute<BC>(len, n, blk, start);
    if (through_state) reverse<BC>(b, len, n, blk);
  }

  void load_steps(int64_t b, int64_t t0, int64_t len, int64_t blk) {
    const int64_t d = p.first(blk), lanes = PLAIN ? W : p.lanes(blk);
    const vf skip = vector_or_zero(a.Dskip, d, lanes), bias = vector_or_zero(a.dt_bias, d, lanes);
    for (int64_t t = 0; t < len; t++) {
      const int64_t next = d + W;
      prefetch(a.x.at(b, t0 + t) + next, a.dt.at(b, t0 + t) + next, a.z.at(b, t0 + t) + next, a.dy.at(b, t0 + t) + next);
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

  // States n .. n + S - 1 over a stretch, from its checkpoint; on the way the sums that need the state only.
  template <Sums BC>
  void recompute(int64_t len, int64_t n, int64_t blk, const vf *start) {
    const vf *A2 = p.A2.p + blk * Np + n, *const dt = this->dt, *const dtx = this->dtx, *const ds = this->ds;
    const float *Bt = Bm + n, *Ct = Cm + n;
    vf *decay = as, *next = hs, *const s = this->s, *sumC = accC + n * len;
    const int64_t Np = this->Np;
    vf h[S], An[S];
    for (int i = 0; i < S; i++) h[i] = next[i] = start[i], An[i] = A2[i];
    for (int64_t t = 0; t < len; t++, Bt += Np, Ct += Np, sumC += S, decay += S) {
      const vf dtt = dt[t], dtxt = dtx[t], dst = ds[t];
      next += S;
      vf acc = s[t];
      for (int i = 0; i < S; i++) {
        vf e = exp2v(dtt * An[i]);
        decay[i] = e;
        h[i] = e * h[i] + dtxt * Bt[i];
        next[i] = h[i];
        acc += h[i] * Ct[i];
        if (BC) into(sumC[i], h[i] * dst, BC);
      }
      s[t] = acc;
    }
  }

  // g = d loss / d h_t, carried against time.
  template <Sums BC>
  void reverse(int64_t b, int64_t len, int64_t n, int64_t blk) {
    const int64_t d = p.first(blk), lanes = PLAIN ? W : p.lanes(blk);
    const vf *A2 = p.A2.p + blk * Np + n, *const dt = this->dt, *const dtx = this->dtx, *const ds = this->ds;
    const int64_t Np = this->Np, *const report = this->report.data();
    const float *Bt = Bm + len * Np + n, *Ct = Cm + len * Np + n;
    const vf *decays = as + len * S, *before = hs + len * S;
    vf *const q = this->q, *const w = this->w, *sumB = accB + n * len + len * S;
    vf *carried = carry + (blk - blk0) * Np + n, *to_A = dA + (blk - blk0) * Np + n;
    vf g[S], An[S], sumA[S];
    for (int i = 0; i < S; i++) g[i] = carried[i], An[i] = A2[i], sumA[i] = to_A[i];
    for (int64_t t = len - 1; t >= 0; t--) {
      Bt -= Np, Ct -= Np, sumB -= S, decays -= S, before -= S;
      const vf dtt = dt[t], dtxt = dtx[t], dst = ds[t];
      if (!PLAIN && report[t] >= 0) {
        vf extra[S] = {};
        read_state(a.dstates + ((b * p.states + report[t]) * a.N + n) * a.D, a.D, std::min<int64_t>(S, a.N - n), d, lanes, extra);
        for (int i = 0; i < S; i++) g[i] += extra[i];
      }
      vf qt = q[t], wt = w[t];
      for (int i = 0; i < S; i++) {
        g[i] += Ct[i] * dst;
        if (BC) into(sumB[i], g[i] * dtxt, BC);
        qt += g[i] * Bt[i];
        g[i] *= decays[i];
        vf decay = g[i] * before[i];  // d loss / d (dt A)
        wt += decay * An[i];
        sumA[i] += decay * dtt;
      }
      q[t] = qt, w[t] = wt;
    }
    for (int i = 0; i < S; i++) carried[i] = g[i], to_A[i] = sumA[i];
  }

  void store_steps(int64_t b, int64_t t0, int64_t len, int64_t blk, int64_t term) {
    const int64_t d = p.first(blk), lanes = PLAIN ? W : p.lanes(blk);
    const vf skip = vector_or_zero(a.Dskip, d, lanes);
    for (int64_t t = 0; t < len; t++) {
      const int64_t at = (b * a.L + t0 + t) * a.D + d;
      vf raw = (q[t] * x[t] + w[t] * LN2) * slope[t];
      to_skip[term + t] = ds[t], to_bias[term + t] = raw;
      if (a.dx) store(a.dx + at, q[t] * dt[t] + ds[t] * skip, lanes);
      if (a.ddt) store(a.ddt + at, raw, lanes);
      if (a.dz) store(a.dz + at, dy[t] * s[t] * gate[t], lanes);
    }
  }
};

static void add_up(const Args &a, const Plan &p, const Partials &sums, int64_t blk) {
  vf total;
  auto over_slots = [&](const vf *first, int64_t stride) {
    total = vf{};
    for (int64_t slot = 0; slot < sums.slots; slot++) total += first[slot * stride];
  };
  const int64_t d = p.first(blk), lanes = p.lanes(blk);
  if (a.dA)
    for (int64_t n = 0; n < a.N; n++) {
      over_slots(sums.A.p + blk * p.Np + n, sums.blocks * p.Np);
      for (int64_t i = 0; i < lanes; i++) a.dA[(d + i) * a.N + n] = total[i];
    }
  if (a.dDskip) over_slots(sums.skip.p + blk, sums.blocks), store(a.dDskip + d, total, lanes);
  if (a.dbias) over_slots(sums.bias.p + blk, sums.blocks), store(a.dbias + d, total, lanes);
}

extern "C" void lgmamba_backward(const Args *args) {
  const Args &a = *args;
  Plan p(a, 32);
  for (float *grad : {a.dx, a.ddt, a.dz}) prefer_huge_pages(grad, a.B * a.L * a.D * 4);
  const int64_t slots = std::min<int64_t>(a.B, 128), shares = a.G * p.shares, LGN = a.L * a.G * a.N, all = a.B * LGN;
  Partials sums(a, p, slots);
  // The shares of a group each write their own part of dB and dC; a single share writes the result.
  std::vector<float> dB(p.shares > 1 && a.dBmat ? p.shares * all : 0), dC(p.shares > 1 && a.dCmat ? p.shares * all : 0);
  float *dBp = dB.empty() ? a.dBmat : dB.data(), *dCp = dC.empty() ? a.dCmat : dC.data();
  auto work = [&](auto plain) {
    parallel(slots * shares, a.threads, [&](int64_t i) {
      const int64_t slot = i / shares;
      BackwardTask<decltype(plain)::value> task(a, p, sums, slot, Share(p, i % shares), dBp, dCp);
      for (int64_t b = slot * a.B / slots; b < (slot + 1) * a.B / slots; b++) task.sample(b);
    });
  };
  p.wide % W || a.dstates ? work(std::false_type{}) : work(std::true_type{});
  parallel(sums.blocks, a.threads, [&](int64_t blk) { add_up(a, p, sums, blk); });
  if (p.shares == 1) return;
  parallel(a.B, a.threads, [&](int64_t b) {
    for (int64_t i = b * LGN; i < (b + 1) * LGN; i++) {
      float tB = 0, tC = 0;
      for (int64_t share = 0; share < p.shares; share++) {
        if (a.dBmat) tB += dB[share * all + i];
        if (a.dCmat) tC += dC[share * all + i];
      }
      if (a.dBmat) a.dBmat[i] = tB;
      if (a.dCmat) a.dCmat[i] = tC;
    }
  });
}
