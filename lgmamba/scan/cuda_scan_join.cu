// Carry the states of cuda_scan_ends.cu from slot to slot, in place: v_i += exp(A * dt_sum_i) * v_(i-1), or from the other
// end. A block serves COLUMNS states of one sample; each of its RUNS rows of threads takes a run of neighbouring slots, first
// to find what the run passes on, then, with what the runs before it passed on, to write the states.

struct Join {
    float *ends;                  // (B, slots, D, N)
    const float *dt_sums, *A;     // (B, slots, D), (R, D, N)
    i64 B, slots, D, N, columns;  // columns: blocks along D * N
    i64 reverse, run_samples;     // run_samples = B / R
};

constexpr int RUNS = 16;
constexpr int AHEAD = 8;  // slots whose loads are in flight together, and are loaded once if a run has no more

struct Slots {
    float own[AHEAD], dt_sum[AHEAD];
    __device__ __forceinline__ void load(const float *ends, const float *sums, i64 states, i64 channels, int first, int end) {
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            const bool valid = first + j < end;
            own[j] = valid ? ends[(first + j) * states] : 0.0f;
            dt_sum[j] = valid ? sums[(first + j) * channels] : 0.0f;
        }
    }
};

extern "C" __global__ void __launch_bounds__(RUNS *COLUMNS) scan_join(const __grid_constant__ Join a) {
    __shared__ float passed[RUNS][COLUMNS], passed_dt[RUNS][COLUMNS];
    const int x = threadIdx.x % COLUMNS, y = threadIdx.x / COLUMNS;
    const i64 b = blockIdx.x / a.columns, width = a.D * a.N;
    const i64 wanted = (blockIdx.x - b * a.columns) * COLUMNS + x, e = wanted < width ? wanted : width - 1, d = e / a.N;
    const int slots = a.slots, run = (slots + RUNS - 1) / RUNS, first = min(slots, y * run);
    const int end = wanted < width ? min(slots, first + run) : first;
    const i64 outermost = b * slots + (a.reverse ? slots - 1 : 0), direction = a.reverse ? -1 : 1;
    float *ends = a.ends + outermost * width + e;
    const float *sums = a.dt_sums + outermost * a.D + d;
    const i64 states = direction * width, channels = direction * a.D;
    const float A2 = a.A[b / a.run_samples * width + e] * LOG2_E;
    wait_for_previous_kernel();
    let_next_kernel_start();

    Slots next;
    float v = 0.0f, dt_sum = 0.0f;
    for (int i = first; i < end; i += AHEAD) {
        next.load(ends, sums, states, channels, i, end);
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            v = exp2_fast(A2 * next.dt_sum[j]) * v + next.own[j];
            dt_sum += next.dt_sum[j];
        }
    }
    passed[y][x] = v;
    passed_dt[y][x] = dt_sum;
    __syncthreads();
    v = 0.0f;
    for (int r = 0; r < y; r++) v = exp2_fast(A2 * passed_dt[r][x]) * v + passed[r][x];
    for (int i = first; i < end; i += AHEAD) {
        if (run > AHEAD) next.load(ends, sums, states, channels, i, end);
#pragma unroll
        for (int j = 0; j < AHEAD; j++) {
            v = exp2_fast(A2 * next.dt_sum[j]) * v + next.own[j];
            if (i + j < end) ends[(i + j) * states] = v;
        }
    }
}
