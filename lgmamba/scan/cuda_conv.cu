// Depthwise causal convolution of W taps with bias and SiLU, (B, L, D): y_t = SiLU(bias + sum_k weight_k x_{t-W+1+k}).
//
// A thread holds CT neighbouring channels and walks along segments of SEGMENT steps with the last W inputs in registers;
// a warp's lanes hold neighbouring channels. The backward walks W - 1 steps past its segment, so that every dx is
// computed by one thread, and leaves sums over samples and steps as one part per block, added in a fixed order.
//
// The B samples are R runs of `run_samples` neighbouring ones, each with its own weight and bias; a block serves one run.
//
// Set by cuda_conv.py: TX as type; CT, W, SEGMENT as numbers; CARRY (the W - 1 inputs before x are given) as 0 or 1.
// Threads of a block: COLUMNS groups of channels x ROWS segments. Grid: groups of channels fastest, then parts, then runs.

struct Args {
    i64 B, L, D, run_samples, run_parts;  // run_parts: blocks along the (sample, segment) of a run
    const TX *x; i64 x_b, x_l;
    const TX *dy; i64 dy_b, dy_l;
    const TX *carry;                // (B, W - 1, D)
    const float *weight, *bias;     // (R, D, W), (R, D)
    TX *y, *dx, *dcarry;
    float *part;                    // (R * run_parts, D, W + 1): dweight, dbias
    float *dweight, *dbias;
};

struct Place {
    int d0;
    bool live;
    i64 part, run, first, end, segments, stride;  // of this thread's items, each one segment of one sample
    __device__ __forceinline__ Place(const Args &a) {
        const int blocks_d = (a.D + COLUMNS * CT - 1) / (COLUMNS * CT);
        d0 = (blockIdx.x % blocks_d * COLUMNS + threadIdx.x % COLUMNS) * CT;
        live = d0 < a.D;
        part = blockIdx.x / blocks_d;
        run = part / a.run_parts;
        segments = (a.L + SEGMENT - 1) / SEGMENT;
        const i64 items = a.run_samples * segments;  // of a run
        first = run * items + (part - run * a.run_parts) * ROWS + threadIdx.x / COLUMNS;
        end = (run + 1) * items;
        stride = a.run_parts * ROWS;
    }
};

__device__ __forceinline__ void load_taps(float (&weight)[CT][W], float (&bias)[CT], const Args &a, const Place &at) {
#pragma unroll
    for (int c = 0; c < CT; c++) {
        const i64 channel = at.run * a.D + at.d0 + c;
        bias[c] = at.live ? a.bias[channel] : 0.0f;
#pragma unroll
        for (int k = 0; k < W; k++) weight[c][k] = at.live ? a.weight[channel * W + k] : 0.0f;
    }
}

// Input t of sample b, from the carry where t < 0; 0 where there is none.
__device__ __forceinline__ Packed<TX, CT> load_input(i64 b, int t, const Args &a, const Place &at) {
    Packed<TX, CT> r;
    if (!at.live || t >= a.L) return r;
    if (t >= 0) r.load(a.x + b * a.x_b + t * a.x_l + at.d0);
    if (CARRY && t < 0) r.load(a.carry + (b * (W - 1) + t + W - 1) * a.D + at.d0);
    return r;
}

// Push an input into the window of the last W and return the convolution there.
__device__ __forceinline__ void convolve(
    float (&out)[CT], float (&window)[CT][W], const Packed<TX, CT> &input, const float (&weight)[CT][W],
    const float (&bias)[CT]) {
#pragma unroll
    for (int c = 0; c < CT; c++) {
#pragma unroll
        for (int k = 0; k < W - 1; k++) window[c][k] = window[c][k + 1];
        window[c][W - 1] = input[c];
        out[c] = bias[c];
#pragma unroll
        for (int k = 0; k < W; k++) out[c] += weight[c][k] * window[c][k];
    }
}

extern "C" __global__ void __launch_bounds__(ROWS *COLUMNS) conv_forward(const __grid_constant__ Args a) {
    const Place at(a);
    float weight[CT][W], bias[CT];
    load_taps(weight, bias, a, at);
    for (i64 item = at.first; item < at.end; item += at.stride) {
        const i64 b = item / at.segments;
        const int t0 = (item - b * at.segments) * SEGMENT;
        float window[CT][W], out[CT];
        Packed<TX, CT> input[SEGMENT + W - 1];
#pragma unroll
        for (int i = 0; i < SEGMENT + W - 1; i++) input[i] = load_input(b, t0 + i - (W - 1), a, at);
        TX *y = a.y + (b * a.L + t0) * a.D + at.d0;
#pragma unroll
        for (int i = 0; i < SEGMENT + W - 1; i++) {
            convolve(out, window, input[i], weight, bias);
            if (i < W - 1) continue;  // fills the window
#pragma unroll
            for (int c = 0; c < CT; c++) out[c] *= sigmoid(out[c]);
            if (at.live && t0 + i - (W - 1) < a.L) store_packed<TX, CT>(y + (i - (W - 1)) * a.D, out);
        }
    }
}

extern "C" __global__ void __launch_bounds__(ROWS *COLUMNS) conv_backward(const __grid_constant__ Args a) {
    __shared__ float sums[ROWS][COLUMNS];
    const Place at(a);
    float weight[CT][W], bias[CT], dparam[CT][W + 1] = {};
    load_taps(weight, bias, a, at);
    for (i64 item = at.first; item < at.end; item += at.stride) {
        const i64 b = item / at.segments;
        const int t0 = (item - b * at.segments) * SEGMENT;
        float window[CT][W], out[CT], g[CT][W] = {};  // g: dL / d(convolution) at the last W steps
#pragma unroll
        for (int i = 0; i < W - 1; i++) convolve(out, window, load_input(b, t0 + i - (W - 1), a, at), weight, bias);
        const TX *dy = a.dy + b * a.dy_b + t0 * a.dy_l + at.d0;
        TX *dx = a.dx + (b * a.L + t0) * a.D + at.d0;
#pragma unroll
        for (int i = 0; i < SEGMENT + W - 1; i++) {
            const bool inside = at.live && t0 + i < a.L;
            const auto cotangent = load_packed<TX, CT>(dy + i * a.dy_l, inside);
            convolve(out, window, load_input(b, t0 + i, a, at), weight, bias);
            float d[CT];
#pragma unroll
            for (int c = 0; c < CT; c++) {
                const float sig = sigmoid(out[c]);
#pragma unroll
                for (int k = 0; k < W - 1; k++) g[c][k] = g[c][k + 1];
                g[c][W - 1] = cotangent[c] * sig * (1.0f + out[c] * (1.0f - sig));
                d[c] = 0.0f;
#pragma unroll
                for (int k = 0; k < W; k++) d[c] += weight[c][W - 1 - k] * g[c][k];
                if (i >= SEGMENT) continue;  // these steps belong to the next segment
#pragma unroll
                for (int k = 0; k < W; k++) dparam[c][k] += g[c][W - 1] * window[c][k];
                dparam[c][W] += g[c][W - 1];
            }
            const int s = i - (W - 1);  // d is complete for this step of the segment
            if (s >= 0 && at.live && t0 + s < a.L) store_packed<TX, CT>(dx + s * a.D, d);
            if (CARRY && s < 0 && at.live && t0 == 0)
                store_packed<TX, CT>(a.dcarry + (b * (W - 1) + i) * a.D + at.d0, d);
        }
    }
    const int x = threadIdx.x % COLUMNS, y = threadIdx.x / COLUMNS;
#pragma unroll
    for (int c = 0; c < CT; c++)
#pragma unroll
        for (int k = 0; k <= W; k++) {
            sums[y][x] = dparam[c][k];
            __syncthreads();
            if (y == 0 && at.live) {
                float v = sums[0][x];
                for (int i = 1; i < ROWS; i++) v += sums[i][x];
                a.part[(at.part * a.D + at.d0 + c) * (W + 1) + k] = v;
            }
            __syncthreads();
        }
}

// dweight and dbias from the parts; one column of a run's (run_parts, D * (W + 1)) per lane.
extern "C" __global__ void __launch_bounds__(ROWS *COLUMNS) conv_sums(const __grid_constant__ Args a) {
    const i64 width = a.D * (W + 1), run_blocks = (width + COLUMNS - 1) / COLUMNS, run = blockIdx.x / run_blocks;
    const i64 e = (blockIdx.x - run * run_blocks) * COLUMNS + threadIdx.x % COLUMNS, d = e / (W + 1);
    float v;
    if (!sum_parts(a.part + run * a.run_parts * width + e, width, a.run_parts, e < width, v)) return;
    const int k = e - d * (W + 1);
    if (k < W)
        a.dweight[(run * a.D + d) * W + k] = v;
    else
        a.dbias[run * a.D + d] = v;
}
