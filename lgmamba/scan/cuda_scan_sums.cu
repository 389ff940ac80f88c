// The second half of the backward's sums over channels and samples, each in a fixed order. Arrays as in cuda_scan.cu.

struct Sums {
    const float *part_bc, *part_A, *part_vectors;
    TBC *dBmat, *dCmat;
    float *dA, *dDskip, *dbias;                   // (R, D, N), (R, D), (R, D)
    i64 rows, D, N, blocks_per_group;             // rows = B * L * G, 0 where dB and dC are complete
    i64 run_parts, run_blocks, parameter_blocks;  // blocks for the parameters of one run, and for those of all
};

// One column of a run's (run_parts, D * N + 2 * D) per lane.
__device__ __forceinline__ void sum_parameters(const Sums &a) {
    const i64 run = blockIdx.x / a.run_blocks, matrix = a.D * a.N;
    const i64 e = (blockIdx.x - run * a.run_blocks) * COLUMNS + threadIdx.x % COLUMNS;
    const bool in_matrix = e < matrix;
    const i64 width = in_matrix ? matrix : 2 * a.D;
    const float *p = (in_matrix ? a.part_A + e : a.part_vectors + e - matrix) + run * a.run_parts * width;
    float v;
    if (!sum_parts(p, width, a.run_parts, e < matrix + 2 * a.D, v)) return;
    if (in_matrix)
        a.dA[run * matrix + e] = v;
    else if (e < matrix + a.D) {
        if (a.dDskip != nullptr) a.dDskip[run * a.D + e - matrix] = v;
    } else if (a.dbias != nullptr)
        a.dbias[run * a.D + e - matrix - a.D] = v;
}

// One element of (rows, dB or dC, N) per thread.
__device__ __forceinline__ void sum_projections(const Sums &a) {
    const i64 total = a.rows * 2 * a.N, stride = i64(gridDim.x - a.parameter_blocks) * blockDim.x;
    for (i64 e = i64(blockIdx.x - a.parameter_blocks) * blockDim.x + threadIdx.x; e < total; e += stride) {
        float v = 0.0f;
#pragma unroll 8
        for (i64 p = 0; p < a.blocks_per_group; p++) v += a.part_bc[p * total + e];
        const i64 row = e / (2 * a.N), n = e - row * 2 * a.N;
        from_float(v, n < a.N ? a.dBmat[row * a.N + n] : a.dCmat[row * a.N + n - a.N]);
    }
}

extern "C" __global__ void __launch_bounds__(ROWS *COLUMNS) scan_sums(const __grid_constant__ Sums a) {
    wait_for_previous_kernel();
    if (blockIdx.x < a.parameter_blocks)
        sum_parameters(a);
    else
        sum_projections(a);
}
