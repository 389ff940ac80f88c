// What the special function units give: 2^v on 8 independent chains per thread, nothing else of note.
struct Args {
    float *out;
    i64 loops;
};

extern "C" __global__ void exp_rate(const __grid_constant__ Args a) {
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = -0.1f * i - 1e-3f * threadIdx.x;
    for (int j = 0; j < a.loops; j++)
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = exp2_fast(v[i]);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) sum += v[i];
    a.out[i64(blockIdx.x) * blockDim.x + threadIdx.x] = sum;
}
