// Forward scan. Grid: blocks of D fastest, then B; pieces along y. Mapping and constants: cuda_scan.cu.

constexpr int BC_FLOATS = K * 2 * NP;                   // one chunk of B and C; two of them, used in turn
constexpr int WARP_FLOATS = T * CHANNELS_PER_WARP * 2;  // dt and u of a tile

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) scan_forward(const __grid_constant__ Args a) {
    extern __shared__ __align__(16) float shared[];
    const int sample = blockIdx.x / int(a.blocks_d), L = a.L;
    const Place at(blockIdx.x - sample * int(a.blocks_d), a);
    const Piece piece(blockIdx.y, a);
    const int run = sample / int(a.run_samples);
    const i64 b = sample;
    float *steps = shared + 2 * BC_FLOATS + at.warp * WARP_FLOATS;  // [T][CL][dt, u][CT]

    Rows<TX> xs(a.x, a.x_b, a.x_l, b, piece.first, T, at);
    Rows<TD> dts(a.dt, a.dt_b, a.dt_l, b, piece.first, T, at);
    Rows<TZ> zs(a.z, a.z_b, a.z_l, b, piece.first, T, at);
    TX *py = a.y + (b * L + piece.first + at.step0) * a.D + at.d0;
    const auto fetch_tile = [&](int t0) {
        xs.fetch(t0, piece.end, at);
        dts.fetch(t0, piece.end, at);
        if constexpr (GATED) zs.fetch(t0, piece.end, at);
    };

    ProjectionStage<true, true> stage(a, b, at);
    stage.fetch(piece.first, piece.end);
    fetch_tile(piece.first);
    State A2, h = {}, gains;
    load_state_matrix(A2, run, a, at);
    float skip[CT], bias[CT];
    load_parameter(skip, a.Dskip, run, a, at);
    load_parameter(bias, a.dt_bias, run, a, at);
    wait_for_previous_kernel();
    if (piece.index > 0)
        load_state(h, a.ends + state_offset(b * (a.pieces - 1) + piece.index - 1, a, at), a, at);
    else if (a.h0 != nullptr)
        load_state(h, a.h0 + state_offset(b, a, at), a, at);
    int until_state = STATES ? int(a.states_every) - piece.first % int(a.states_every) : 0;
    for (int start = piece.first, turn = 0; start < piece.end; start += K, turn ^= 1) {
        float *bc = shared + turn * BC_FLOATS;
        stage.store(bc, start, piece.end);
        __syncthreads();
        if (start + K < piece.end) stage.fetch(start + K, piece.end);
        if (CHECKPOINTS && start > 0)
            store_state(a.checkpoints + state_offset(b * ((L - 1) / K) + start / K - 1, a, at), h, a, at);

        for (int t0 = start; t0 < start + K && t0 < piece.end; t0 += T, bc += T * 2 * NP) {
            float x[TPL][CT], dt[TPL][CT], gate[TPL][CT];
#pragma unroll
            for (int i = 0; i < TPL; i++)
#pragma unroll
                for (int c = 0; c < CT; c++) {
                    x[i][c] = xs.raw[i][c];
                    dt[i][c] = dts.raw[i][c] + bias[c];
                    if constexpr (GATED) gate[i][c] = zs.raw[i][c];
                }
            fetch_tile(t0 + T);
#pragma unroll
            for (int i = 0; i < TPL; i++) {
                const bool valid = at.live && t0 + at.step0 + i < piece.end;
                float step[2 * CT], unused;
#pragma unroll
                for (int c = 0; c < CT; c++) {
                    if constexpr (SOFTPLUS) dt[i][c] = softplus(dt[i][c], unused);
                    if constexpr (GATED) gate[i][c] *= sigmoid(gate[i][c]);
                    step[c] = valid ? dt[i][c] : 0.0f;
                    step[CT + c] = step[c] * x[i][c];
                }
                if (at.rank_s % LANES_PER_STEP == 0)
                    store_shared(steps + ((at.step0 + i) * CL + at.rank_c) * 2 * CT, step);
            }
            __syncwarp();

            float y[CT][T];
#pragma unroll
            for (int t = 0; t < T; t++) {
                float step[2 * CT], dt[CT], u[CT], Bt[NT], Ct[NT];
                load_shared(step, steps + (t * CL + at.rank_c) * 2 * CT);
                load_shared(Bt, bc + t * 2 * NP + at.n0);
                load_shared(Ct, bc + t * 2 * NP + NP + at.n0);
#pragma unroll
                for (int c = 0; c < CT; c++) dt[c] = step[c], u[c] = step[CT + c];
                advance(h, gains, dt, u, A2, Bt);
#pragma unroll
                for (int c = 0; c < CT; c++) {
                    y[c][t] = Ct[0] * h[c][0];
#pragma unroll
                    for (int n = 1; n < NT; n++) y[c][t] += Ct[n] * h[c][n];
                }
                if (STATES && --until_state == 0) {
                    until_state = a.states_every;
                    const i64 row = b * (L / until_state) + (t0 + t) / until_state;
                    if (t0 + t < piece.end) store_state(a.states + state_offset(row, a, at), h, a, at);
                }
            }
            __syncwarp();  // the next tile overwrites dt and u

#pragma unroll
            for (int c = 0; c < CT; c++) sum_scattered<T, S, 1>(y[c], at.lane);
#pragma unroll
            for (int i = 0; i < TPL; i++) {
                float out[CT];
#pragma unroll
                for (int c = 0; c < CT; c++) {
                    out[c] = y[c][i] + skip[c] * x[i][c];
                    if constexpr (GATED) out[c] *= gate[i][c];
                }
                if (at.owner && t0 + at.step0 + i < piece.end) store_packed<TX, CT>(py + i * a.D, out);
            }
            py += T * a.D;
        }
    }
    if (a.last != nullptr && piece.is_last) store_state(a.last + state_offset(b, a, at), h, a, at);
}
