// Forward scan. Grid: (blocks of D) fastest, then B. Mapping and constants: cuda_scan.cu.

constexpr int BC_FLOATS = K * 2 * NP;                   // one chunk of B and C; two of them, used in turn
constexpr int WARP_FLOATS = T * CHANNELS_PER_WARP * 2;  // dt and u of a tile

extern "C" __global__ void __launch_bounds__(THREADS, MIN_BLOCKS) scan_forward(const __grid_constant__ Args a) {
    extern __shared__ __align__(16) float shared[];
    const int L = a.L, blocks_d = (a.D + WARPS * CHANNELS_PER_WARP - 1) / (WARPS * CHANNELS_PER_WARP);
    const i64 b = blockIdx.x / blocks_d;
    const Place at(blockIdx.x % blocks_d, a.D);
    float *steps = shared + 2 * BC_FLOATS + at.warp * WARP_FLOATS;  // [T][CL][dt, u][CT]

    State A2, h = {}, gains;
    load_state_matrix(A2, a, at);
    if (a.h0 != nullptr) load_state(h, a.h0 + state_offset(b, a, at), a, at);
    float skip[CT], bias[CT];
    load_parameter(skip, a.Dskip, at);
    load_parameter(bias, a.dt_bias, at);

    // This lane's elements of the tile ahead.
    const TX *px = a.x + b * a.x_b + at.step0 * a.x_l + at.d0;
    const TD *pdt = a.dt + b * a.dt_b + at.step0 * a.dt_l + at.d0;
    const TZ *pz = a.z + b * a.z_b + at.step0 * a.z_l + at.d0;
    TX *py = a.y + (b * L + at.step0) * a.D + at.d0;
    Packed<TX, CT> raw_x[TPL];
    Packed<TD, CT> raw_dt[TPL];
    Packed<TZ, CT> raw_z[TPL];
    const auto fetch_tile = [&](int t0) {
#pragma unroll
        for (int i = 0; i < TPL; i++) {
            const bool valid = at.live && t0 + at.step0 + i < L;
            raw_x[i] = load_packed<TX, CT>(px + i * a.x_l, valid);
            raw_dt[i] = load_packed<TD, CT>(pdt + i * a.dt_l, valid);
            if constexpr (GATED) raw_z[i] = load_packed<TZ, CT>(pz + i * a.z_l, valid);
        }
        px += T * a.x_l;
        pdt += T * a.dt_l;
        pz += T * a.z_l;
    };

    ProjectionStage stage(a, b);
    stage.fetch(0, L);
    fetch_tile(0);
    int until_state = a.states_every;
    for (int chunk = 0; chunk * K < L; chunk++) {
        float *bc = shared + (chunk % 2) * BC_FLOATS;
        stage.store(bc, chunk * K, L);
        __syncthreads();
        if ((chunk + 1) * K < L) stage.fetch((chunk + 1) * K, L);
        if (CHECKPOINTS && chunk > 0)
            store_state(a.checkpoints + state_offset(b * ((L - 1) / K) + chunk - 1, a, at), h, a, at);

        for (int t0 = chunk * K; t0 < (chunk + 1) * K && t0 < L; t0 += T, bc += T * 2 * NP) {
            float x[TPL][CT], dt[TPL][CT], gate[TPL][CT];
#pragma unroll
            for (int i = 0; i < TPL; i++)
#pragma unroll
                for (int c = 0; c < CT; c++) {
                    x[i][c] = raw_x[i][c];
                    dt[i][c] = raw_dt[i][c] + bias[c];
                    if constexpr (GATED) gate[i][c] = raw_z[i][c];
                }
            fetch_tile(t0 + T);
#pragma unroll
            for (int i = 0; i < TPL; i++) {
                const bool valid = at.live && t0 + at.step0 + i < L;
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
                    if (t0 + t < L) store_state(a.states + state_offset(row, a, at), h, a, at);
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
                if (at.owner && t0 + at.step0 + i < L) store_packed<TX, CT>(py + i * a.D, out);
            }
            py += T * a.D;
        }
    }
    if (a.last != nullptr) store_state(a.last + state_offset(b, a, at), h, a, at);
}
