// Small matrix products: what a model of a few hundred thousand parameters needs, without a library's preparations for large ones.
// Glossary: lgmamba/scan/__init__.py.

#pragma once

#include "_cpu_simd.h"

// Element (i, k) of a left factor, or (k, j) of a right one: p[i * row + k * column]. A right factor has column 1.
struct Matrix {
  const float *p;
  int64_t row, column;
};

// A weight (rows, columns), perhaps transposed, as a right factor whose rows are filled up with zeros to whole vectors.
struct Packed {
  Vectors held;
  int64_t stride;
  Packed(const float *w, int64_t rows, int64_t columns, bool transposed)
      : held((transposed ? columns : rows) * whole(transposed ? rows : columns)), stride(whole(transposed ? rows : columns) * W) {
    held.zero();
    float *to = (float *)held.p;
    for (int64_t i = 0; i < rows; i++)
      for (int64_t j = 0; j < columns; j++) to[transposed ? j * stride + i : i * stride + j] = w[i * columns + j];
  }
  static int64_t whole(int64_t n) { return (n + W - 1) / W; }
  Matrix matrix() const { return {(const float *)held.p, stride, 1}; }
};

// RM rows and RN vectors of C = A B, or of C += A B; only the last vector may have fewer lanes.
template <int RM, int RN, bool ADD>
static inline void tile(int64_t K, Matrix a, Matrix b, int64_t b_lanes, float *c, int64_t c_row, int64_t c_lanes) {
  vf sum[RM][RN];
  for (int i = 0; i < RM; i++)
    for (int j = 0; j < RN; j++) sum[i][j] = ADD ? load(c + i * c_row + j * W, j < RN - 1 ? W : c_lanes) : vf{};
  for (int64_t k = 0; k < K; k++) {
    vf right[RN];
    for (int j = 0; j < RN; j++) right[j] = load(b.p + k * b.row + j * W, j < RN - 1 ? W : b_lanes);
    for (int i = 0; i < RM; i++) {
      const vf left = splat(a.p[i * a.row + k * a.column]);
      for (int j = 0; j < RN; j++) sum[i][j] += left * right[j];
    }
  }
  for (int i = 0; i < RM; i++)
    for (int j = 0; j < RN; j++) store(c + i * c_row + j * W, sum[i][j], j < RN - 1 ? W : c_lanes);
}

template <int RN, bool ADD>
static void rows_of(int64_t M, int64_t K, Matrix a, Matrix b, int64_t b_lanes, float *c, int64_t c_row, int64_t c_lanes) {
  int64_t i = 0;
  auto next = [&] { return Matrix{a.p + i * a.row, a.row, a.column}; };
  for (; i + 6 <= M; i += 6) {
    if (c_lanes == W) tile<6, RN, ADD>(K, next(), b, W, c + i * c_row, c_row, W);  // without a test of lanes in its loop
    else tile<6, RN, ADD>(K, next(), b, b_lanes, c + i * c_row, c_row, c_lanes);
  }
  for (; i + 2 <= M; i += 2) tile<2, RN, ADD>(K, next(), b, b_lanes, c + i * c_row, c_row, c_lanes);
  for (; i < M; i++) tile<1, RN, ADD>(K, next(), b, b_lanes, c + i * c_row, c_row, c_lanes);
}

// C (M, N) = A (M, K) B (K, N), or C += A B. The sum over k has the order of k: nothing depends on what other rows there are.
// padded: whether rows of B may be read to whole vectors.
template <bool ADD = false>
static void product(int64_t M, int64_t N, int64_t K, Matrix a, Matrix b, bool padded, float *c, int64_t c_row) {
  for (int64_t j = 0; j < N;) {
    const int64_t left = N - j, wide = left > W ? 2 : 1, lanes = std::min<int64_t>(W, left - (wide - 1) * W);
    const Matrix right = {b.p + j, b.row, 1};
    const int64_t b_lanes = padded ? W : lanes;
    if (wide == 2) rows_of<2, ADD>(M, K, a, right, b_lanes, c + j, c_row, lanes);
    else rows_of<1, ADD>(M, K, a, right, b_lanes, c + j, c_row, lanes);
    j += wide * W;
  }
}
