// What a piece of a sequence passes on to its neighbour, for all pieces but the outermost, side by side: the first of two
// walks. Grid: blocks of D fastest, then B; slots (pieces - 1) along y. Mapping and constants: cuda_scan.cu; T = K here.
//
// Forward: slot i gets the state at the end of piece i, walked from zero (piece 0: from h0). REVERSE: slot i gets
// dL/d(state at the start of piece i + 1), walked from its right end with zero there (last piece: with dlast). Beside it
// lies the sum of the piece's dt. cuda_scan_join.cu turns both into what they are with all pieces taken into account.

static_assert(T == K, "a tile is a chunk here");
constexpr int WARP_FLOATS = T * CHANNELS_PER_WARP * 2;
typedef ProjectionStage<!REVERSE, REVERSE> Stage;

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) scan_ends(const __grid_constant__ Args a) {
    extern __shared__ __align__(16) float shared[];
    let_next_kernel_start();
    const int sample = blockIdx.x / int(a.blocks_d), slot = blockIdx.y;
    const Place at(blockIdx.x - sample * int(a.blocks_d), a);
    const int run = sample / int(a.run_samples);
    const i64 b = sample;
    const Piece piece(REVERSE ? slot + 1 : slot, a);
    float *steps = shared + 2 * Stage::FLOATS + at.warp * WARP_FLOATS;  // [K][CL][dt, w][CT]; w: dt * x, or dy

    const int start = REVERSE ? piece.first + (piece.chunks - 1) * K : piece.first, jump = REVERSE ? -K : K;
    Rows<TD> dts(a.dt, a.dt_b, a.dt_l, b, start, jump, at);
    Rows<TX> xs(REVERSE ? a.dy : a.x, REVERSE ? a.dy_b : a.x_b, REVERSE ? a.dy_l : a.x_l, b, start, jump, at);
    Rows<TZ> zs(a.z, a.z_b, a.z_l, b, start, jump, at);
    const bool any = !REVERSE || a.dy != nullptr;
    Stage stage(a, b, at);
    const auto fetch_chunk = [&](int t0) {
        stage.fetch(t0, piece.end);
        dts.fetch(t0, piece.end, at);
        xs.fetch(t0, any ? piece.end : 0, at);
        if constexpr (REVERSE && GATED) zs.fetch(t0, piece.end, at);
    };

    fetch_chunk(start);
    State A2, v = {};  // v: the state, or its gradient
    load_state_matrix(A2, run, a, at);
    const float *outer = REVERSE ? a.dlast : a.h0;
    if (outer != nullptr && (REVERSE ? piece.is_last : piece.index == 0))
        load_state(v, outer + state_offset(b, a, at), a, at);
    float bias[CT], dt_sum[CT] = {};
    load_parameter(bias, a.dt_bias, run, a, at);
    for (int chunk = 0, t0 = start; chunk < piece.chunks; chunk++, t0 += jump) {
        float *projection = shared + chunk % 2 * Stage::FLOATS;
        stage.store(projection, t0, piece.end);
#pragma unroll
        for (int i = 0; i < TPL; i++) {
            const bool valid = at.live && t0 + at.step0 + i < piece.end;
            float step[2 * CT], unused;
#pragma unroll
            for (int c = 0; c < CT; c++) {
                float dt = dts.raw[i][c] + bias[c], w = xs.raw[i][c];
                if constexpr (SOFTPLUS) dt = softplus(dt, unused);
                step[c] = valid ? dt : 0.0f;
                if constexpr (!REVERSE) w *= step[c];
                if constexpr (REVERSE && GATED) {
                    const float z = zs.raw[i][c];
                    w *= z * sigmoid(z);
                }
                step[CT + c] = w;
                dt_sum[c] += at.owner ? step[c] : 0.0f;
            }
            if (at.rank_s % LANES_PER_STEP == 0)
                store_shared(steps + ((at.step0 + i) * CL + at.rank_c) * 2 * CT, step);
        }
        __syncthreads();
        if (chunk + 1 < piece.chunks) fetch_chunk(t0 + jump);
#pragma unroll
        for (int i = 0; i < K; i++) {
            const int t = REVERSE ? K - 1 - i : i;
            float step[2 * CT], projected[NT];
            load_shared(step, steps + (t * CL + at.rank_c) * 2 * CT);
            load_shared(projected, projection + t * NP + at.n0);
            if constexpr (REVERSE && STATES) add_reported_gradient(v, b, t0 + t, a, at);
#pragma unroll
            for (int c = 0; c < CT; c++)
#pragma unroll
                for (int n = 0; n < NT; n++) {
                    const float gain = exp2_fast(step[c] * A2[c][n]);
                    if constexpr (REVERSE)
                        v[c][n] = gain * (v[c][n] + step[CT + c] * projected[n]);
                    else
                        v[c][n] = gain * v[c][n] + step[CT + c] * projected[n];
                }
        }
        __syncwarp();  // the next chunk overwrites the steps
    }

    const i64 row = b * (a.pieces - 1) + slot;
    store_state(a.ends + state_offset(row, a, at), v, a, at);
#pragma unroll
    for (int c = 0; c < CT; c++) {
#pragma unroll
        for (int mask = 1; mask < S; mask *= 2) dt_sum[c] += __shfl_xor_sync(ALL_LANES, dt_sum[c], mask);
        if (at.live && at.rank_s == 0) a.dt_sums[row * a.D + at.d0 + c] = dt_sum[c];
    }
}
