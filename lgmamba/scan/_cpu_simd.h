// What `_cpu_kernel.cpp` is written in: vectors of channels and their elementary functions, memory and threads.
// Glossary: lgmamba/scan/__init__.py.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>
#ifdef __x86_64__
#include <immintrin.h>
#endif
#ifdef __linux__
#include <sys/mman.h>
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
static inline vf vector_or_zero(const float *p, int64_t d, int64_t lanes) { return p ? load(p + d, lanes) : vf{}; }
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

// to[i] = hsum(v[i]) for W vectors, to the bit: halves of two vectors are added at once, then quarters of four, and so on.
static inline void hsums(const vf *v, float *to) {
#if defined(__AVX512F__)
  __m512 half[8], quarter[4], pair[2];
  for (int i = 0; i < 8; i++) {  // in such an order that the sums come out in theirs
    const __m512 a = (__m512)v[(8 * i) % 16 + i / 2], b = (__m512)v[(8 * i) % 16 + 4 + i / 2];
    half[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
  }
  for (int i = 0; i < 4; i++)
    quarter[i] = _mm512_add_ps(_mm512_shuffle_f32x4(half[2 * i], half[2 * i + 1], 0x88), _mm512_shuffle_f32x4(half[2 * i], half[2 * i + 1], 0xdd));
  for (int i = 0; i < 2; i++)
    pair[i] = _mm512_add_ps(_mm512_shuffle_ps(quarter[2 * i], quarter[2 * i + 1], 0x44), _mm512_shuffle_ps(quarter[2 * i], quarter[2 * i + 1], 0xee));
  _mm512_storeu_ps(to, _mm512_add_ps(_mm512_shuffle_ps(pair[0], pair[1], 0x88), _mm512_shuffle_ps(pair[0], pair[1], 0xdd)));
#elif defined(__AVX__)
  __m256 half[4], pair[2];
  for (int i = 0; i < 4; i++) {
    const __m256 a = (__m256)v[i], b = (__m256)v[4 + i];
    half[i] = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  }
  for (int i = 0; i < 2; i++)
    pair[i] = _mm256_add_ps(_mm256_shuffle_ps(half[2 * i], half[2 * i + 1], 0x44), _mm256_shuffle_ps(half[2 * i], half[2 * i + 1], 0xee));
  _mm256_storeu_ps(to, _mm256_add_ps(_mm256_shuffle_ps(pair[0], pair[1], 0x88), _mm256_shuffle_ps(pair[0], pair[1], 0xdd)));
#else
  for (int i = 0; i < W; i++) to[i] = hsum(v[i]);
#endif
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

struct Vectors {  // 64-byte aligned
  vf *p = nullptr;
  int64_t n = 0;
  explicit Vectors(int64_t n = 0) { grow(n); }
  ~Vectors() { release(); }
  Vectors(const Vectors &) = delete;
  void release() { if (p) ::operator delete(p, std::align_val_t(64)); }
  void grow(int64_t wanted) {
    if (wanted <= n) return;
    release();
    p = (vf *)::operator new(wanted * sizeof(vf), std::align_val_t(64));
    n = wanted;
  }
  void zero() { std::memset(p, 0, n * sizeof(vf)); }
};

// Large outputs are fresh memory, and a fault for every 4 KiB of it can cost as much as the scan. numpy asks likewise.
static void prefer_huge_pages(const void *p, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t page = 4096, first = ((uintptr_t)p + page - 1) / page * page;
  if (p && bytes >= (1 << 22)) madvise((void *)first, ((uintptr_t)p + bytes - first) / page * page, MADV_HUGEPAGE);
#endif
}

// Hands out pieces of one buffer per thread, kept between calls: fresh memory costs a page fault per 4 KiB.
struct Workspace {
  vf *next;
  explicit Workspace(int64_t vectors) {
    static thread_local Vectors buffer;
    buffer.grow(vectors);
    next = buffer.p;
  }
  vf *take(int64_t vectors) { return (next += vectors) - vectors; }
  float *take_floats(int64_t floats) { return (float *)take((floats + W - 1) / W); }
};
