// Carry the states of cuda_scan_ends.cu from slot to slot, in place: v_i += exp(A * dt_sum_i) * v_(i-1), or from the other
// end. A block serves COLUMNS states of one sample; each of its ROWS rows takes a run of neighbouring slots, first to find
// what the run passes on, then, with what the runs before it passed on, to write the states.

struct Join {
    float *ends;                  // (B, slots, D, N)
    const float *dt_sums, *A;     // (B, slots, D), (R, D, N)
    i64 B, slots, D, N, columns;  // columns: blocks along D * N
    i64 reverse, run_samples;     // run_samples = B / R
};

constexpr int AHEAD = 8;  // slots whose loads are in flight together

// Walk the slots [first, end) of a column from v; with WRITE leave every state.
template <bool WRITE> __device__ __forceinline__ void walk(
    float &v, float &dt_sum, float *ends, const float *sums, i64 slot_states, i64 slot_sums, float A2, int first, int end) {
    for (int i = first; i < end; i += AHEAD) {
        float own[AHEAD], sum[AHEAD];
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            const bool valid = i + j < end;
            own[j] = valid ? ends[(i + j) * slot_states] : 0.0f;
            sum[j] = valid ? sums[(i + j) * slot_sums] : 0.0f;
        }
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            v = exp2_fast(A2 * sum[j]) * v + own[j];
            dt_sum += sum[j];
            if (WRITE && i + j < end) ends[(i + j) * slot_states] = v;
        }
    }
}

extern "C" __global__ void __launch_bounds__(ROWS *COLUMNS) scan_join(const __grid_constant__ Join a) {
    __shared__ float states[ROWS][COLUMNS], sums[ROWS][COLUMNS];
    const int x = threadIdx.x % COLUMNS, y = threadIdx.x / COLUMNS;
    const i64 b = blockIdx.x / a.columns, width = a.D * a.N;
    const i64 wanted = (blockIdx.x - b * a.columns) * COLUMNS + x, e = wanted < width ? wanted : width - 1, d = e / a.N;
    const int slots = a.slots, run = (slots + ROWS - 1) / ROWS, first = min(slots, y * run);
    const int end = wanted < width ? min(slots, first + run) : first;
    const i64 outermost = b * slots + (a.reverse ? slots - 1 : 0), direction = a.reverse ? -1 : 1;
    float *column = a.ends + outermost * width + e;
    const float *dt_sums = a.dt_sums + outermost * a.D + d;
    const float A2 = a.A[b / a.run_samples * width + e] * LOG2_E;

    float v = 0.0f, dt_sum = 0.0f;
    walk<false>(v, dt_sum, column, dt_sums, direction * width, direction * a.D, A2, first, end);
    states[y][x] = v;
    sums[y][x] = dt_sum;
    __syncthreads();
    v = 0.0f;
    for (int r = 0; r < y; r++) v = exp2_fast(A2 * sums[r][x]) * v + states[r][x];
    walk<true>(v, dt_sum, column, dt_sums, direction * width, direction * a.D, A2, first, end);
}
