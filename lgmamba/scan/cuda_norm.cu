// RMS norm over the last axis, (rows, D): y = x r weight with r = 1 / sqrt(mean(x^2) + eps), everything in float32.
//
// LANES neighbouring lanes hold a row, each ITEMS times V neighbouring numbers; a warp reads its rows as one piece. The backward
// computes r again, which is cheaper than reading it, and leaves the weight's gradient as one part per block.
//
// The rows are R runs of `run_rows` neighbouring ones, each with its own weight; a block serves one run.
//
// Set by cuda_norm.py: D, LANES, V, THREADS as numbers. Grid: blocks of a run fastest, then runs.

struct Args {
    i64 run_rows, run_parts;  // rows and blocks of a run
    double eps;
    const float *x, *weight, *dy;  // (R * run_rows, D), (R, D)
    float *y, *dx;
    float *part;  // (R * run_parts, D)
};

constexpr int BLOCK_ROWS = THREADS / LANES;  // that a block holds at once
constexpr int ITEMS = (D + LANES * V - 1) / (LANES * V);

struct Place {
    int lane, row;
    i64 run, first, stride;
    __device__ __forceinline__ Place(const Args &a) {
        lane = threadIdx.x % LANES, row = threadIdx.x / LANES;
        run = blockIdx.x / a.run_parts;
        first = (blockIdx.x - run * a.run_parts) * BLOCK_ROWS;
        stride = a.run_parts * BLOCK_ROWS;
    }
};

// A lane's share of a row of D numbers; zeros past its end, or where there is no row.
__device__ __forceinline__ void load_share(float (&v)[ITEMS][V], const float *row, int lane, bool valid) {
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int d = (i * LANES + lane) * V;
        const auto r = load_packed<float, V>(row + d, valid && d < D);
#pragma unroll
        for (int c = 0; c < V; c++) v[i][c] = r[c];
    }
}

__device__ __forceinline__ void store_share(float *row, const float (&v)[ITEMS][V], int lane, bool valid) {
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        const int d = (i * LANES + lane) * V;
        if (valid && d < D) store_packed<float, V>(row + d, v[i]);
    }
}

__device__ __forceinline__ float dot(const float (&a)[ITEMS][V], const float (&b)[ITEMS][V]) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < ITEMS; i++)
#pragma unroll
        for (int c = 0; c < V; c++) sum += a[i][c] * b[i][c];
#pragma unroll
    for (int k = LANES / 2; k > 0; k /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, k);
    return sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) norm_forward(const __grid_constant__ Args a) {
    const Place at(a);
    float weight[ITEMS][V];
    load_share(weight, a.weight + at.run * D, at.lane, true);
    for (i64 base = at.first; base < a.run_rows; base += at.stride) {  // the same for all threads of the block
        const bool live = base + at.row < a.run_rows;
        const i64 offset = (at.run * a.run_rows + base + at.row) * D;
        float x[ITEMS][V];
        load_share(x, a.x + offset, at.lane, live);
        const float r = rsqrtf(dot(x, x) / D + float(a.eps));
#pragma unroll
        for (int i = 0; i < ITEMS; i++)
#pragma unroll
            for (int c = 0; c < V; c++) x[i][c] *= r * weight[i][c];
        store_share(a.y + offset, x, at.lane, live);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) norm_backward(const __grid_constant__ Args a) {
    __shared__ float sums[BLOCK_ROWS][LANES * V];
    const Place at(a);
    float weight[ITEMS][V], dweight[ITEMS][V] = {};
    load_share(weight, a.weight + at.run * D, at.lane, true);
    for (i64 base = at.first; base < a.run_rows; base += at.stride) {
        const bool live = base + at.row < a.run_rows;
        const i64 offset = (at.run * a.run_rows + base + at.row) * D;
        float x[ITEMS][V], g[ITEMS][V];  // g: dy, then dL / d(x r)
        load_share(x, a.x + offset, at.lane, live);
        load_share(g, a.dy + offset, at.lane, live);
        const float r = rsqrtf(dot(x, x) / D + float(a.eps));
#pragma unroll
        for (int i = 0; i < ITEMS; i++)
#pragma unroll
            for (int c = 0; c < V; c++) {
                dweight[i][c] += g[i][c] * x[i][c] * r;
                g[i][c] *= weight[i][c];
            }
        const float share = dot(g, x) * r * r / D;
#pragma unroll
        for (int i = 0; i < ITEMS; i++)
#pragma unroll
            for (int c = 0; c < V; c++) g[i][c] = r * (g[i][c] - share * x[i][c]);
        store_share(a.dx + offset, g, at.lane, live);
    }
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        __syncthreads();
#pragma unroll
        for (int c = 0; c < V; c++) sums[at.row][at.lane * V + c] = dweight[i][c];
        __syncthreads();
        const int d = i * LANES * V + threadIdx.x;
        if (threadIdx.x < LANES * V && d < D) {
            float sum = 0.0f;
            for (int row = 0; row < BLOCK_ROWS; row++) sum += sums[row][threadIdx.x];
            a.part[blockIdx.x * i64(D) + d] = sum;
        }
    }
}
