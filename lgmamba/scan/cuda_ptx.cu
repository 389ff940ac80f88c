// The only file with machine instructions: number conversions and special functions.
// Everything here is plain CUDA C++ without includes, so that NVRTC needs no toolkit headers.

using u16 = unsigned short;
using u32 = unsigned int;
using i64 = long long;

struct bf16 { u16 bits; };
struct f16 { u16 bits; };

__device__ __forceinline__ float to_float(float v) { return v; }
__device__ __forceinline__ float to_float(bf16 v) { return __uint_as_float(u32(v.bits) << 16); }
__device__ __forceinline__ float to_float(f16 v) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(v.bits));
    return r;
}

// One element out of 32 loaded bits; `upper` chooses between two of 16 bits.
__device__ __forceinline__ float unpack(u32 bits, bool, float) { return __uint_as_float(bits); }
__device__ __forceinline__ float unpack(u32 bits, bool upper, bf16) {
    return __uint_as_float(upper ? bits & 0xffff0000u : bits << 16);
}
__device__ __forceinline__ float unpack(u32 bits, bool upper, f16) {
    return to_float(f16{u16(upper ? bits >> 16 : bits)});
}

__device__ __forceinline__ void from_float(float v, float &r) { r = v; }
__device__ __forceinline__ void from_float(float v, bf16 &r) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(v)); }
__device__ __forceinline__ void from_float(float v, f16 &r) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(v)); }

// 2^v with two units in the last place; exactly 1 at 0, which makes dt = 0 an exact no-op on the state.
__device__ __forceinline__ float exp2_fast(float v) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

__device__ __forceinline__ float reciprocal_fast(float v) {
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

// The smaller one, NaN if either is.
__device__ __forceinline__ float min_nan(float v, float w) {
    float r;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(r) : "f"(v), "f"(w));
    return r;
}

// Kernels of one call that need each other's results may overlap, start of the one with end of the other, where the
// GPU can (compute capability 9): the earlier lets the later one start once all its blocks run, the later waits for the
// earlier one's results before it touches them or writes anything.
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
