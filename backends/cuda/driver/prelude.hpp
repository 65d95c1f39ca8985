// SPDX-License-Identifier: Apache-2.0
/// The names that generated kernels are written in, defined for NVRTC without any include. Generated code is C (no templates, no C++) so that a C
/// compiler takes it too, with tests/cuda/host_prelude.hpp in place of kDevicePrelude.
///
/// Types            f64 f32 i64 i32 i16 i8 u64 u32 u16 u8 boolean (one byte), and for storage alone f16 bf16 f8e4m3 f8e5m2 (structures with `bits`).
/// Conversions      f32 from_T(T), T to_T(f32), T to_T_d(f64) for each storage type T: to the nearest, ties to even, the latter without rounding
/// twice.
///                  Out of range: f16, bf16 and f8e5m2 give an infinity, f8e4m3 has none and gives NaN. f8e5m2 rounds through f16, as
///                  ov::float8_e5m2. f32_bits(f32) -> u32, bits_f32(u32), f64_bits, bits_f64.
/// Mathematics      C's: expf logf … with f, exp log … for f64; isnan, isinf. timesf(a, b), times(a, b): the product, rounded before anything is
/// added to it, where a * b + c may be one fused operation. quick_expf(x), quick_divf(a, b): to 2^-17 where |x| < 40 and b < 2^126, for results of 16
/// bits.
/// Kernels          KERNEL(name)(parameters) { … }; FUNCTION type name(…) for helpers; BLOCK threads per group; THREAD of 0..BLOCK-1; GROUP (u64) of
///                  the grid's x and y; GROUPS (u64), their number; SHARED; BARRIER(); RESTRICT; GLOBAL; UNROLL before a loop.
///                  OVERLAP() is put first into every kernel (driver/overlap.hpp).
/// Lanes            WARP threads run in step (1 where there are none); SHUFFLE_XOR_F32(value, lane_mask), _F64, _I32, _I64: every lane must take
/// part. Atomic updates   ATOMIC_{ADD,MUL,MIN,MAX}_{F32,F64,I32,I64}(T* where, T value), without a result. MIN and MAX of floats ignore a NaN value.
/// Wide accesses    words4 load16(const void*), void store16(void*, words4), 16-byte aligned; words2 load8, store8, 8-byte aligned; `w[i]` are u32;
///                  u32 load4, store4, 4-byte aligned.
///                  low_T(u32), high_T(u32), u32 pack_T(T low, T high) for f16 and bf16.
#pragma once

#include <string_view>

namespace ai_vmm::cuda {

/// Conversions in integer arithmetic, for the device where it has no instruction and for tests. After the types, FUNCTION, f32_bits and bits_f32.
inline constexpr std::string_view kConversions = R"SOURCE(
// The magnitude `a` (bits of a non-NaN f32 without sign) in a format with `mantissa` bits and exponent bias `bias`, to the nearest even, as if exponents
// had no upper end.
FUNCTION u32 round_magnitude(u32 a, int mantissa, int bias) {
    int drop = 23 - mantissa, least = 128 - bias, exponent = (int)(a >> 23), shift;
    u32 m, kept, rest, half;
    if (exponent >= least) {
        m = a - ((u32)(127 - bias) << 23);
        return (m + ((1u << (drop - 1)) - 1u) + ((m >> drop) & 1u)) >> drop;
    }
    shift = drop + least - exponent;
    if (shift > 24) return 0u;
    m = (a & 0x7fffffu) | 0x800000u;
    kept = m >> shift;
    rest = m & ((1u << shift) - 1u);
    half = 1u << (shift - 1);
    return kept + (rest > half || (rest == half && (kept & 1u)) ? 1u : 0u);
}
// To f32 so that rounding once more to a narrower format gives what rounding once would: an inexact result gets an odd last bit.
FUNCTION f32 round_to_odd(f64 x) {
    f32 r = (f32)x;
    f64 back = (f64)r;
    u32 bits = f32_bits(r);
    if (x != x || back == x || (bits & 1u)) return r;
    return bits_f32((back < 0 ? -back : back) < (x < 0 ? -x : x) ? bits + 1u : bits - 1u);
}
#ifndef NATIVE_F16
FUNCTION f32 from_f16(f16 x) {
    u32 sign = (u32)(x.bits & 0x8000u) << 16, a = x.bits & 0x7fffu;
    if (a >= 0x7c00u) return bits_f32(sign | 0x7f800000u | ((a & 0x3ffu) << 13));
    if (a < 0x400u) return bits_f32(sign | f32_bits((f32)a * 5.9604644775390625e-8f));
    return bits_f32(sign | ((a << 13) + 0x38000000u));
}
FUNCTION f16 to_f16(f32 x) {
    u32 bits = f32_bits(x), a = bits & 0x7fffffffu, r;
    f16 result;
    if (a > 0x7f800000u) r = 0x7e00u;
    else {
        r = round_magnitude(a, 10, 15);
        if (r > 0x7c00u) r = 0x7c00u;
    }
    result.bits = (u16)(((bits >> 16) & 0x8000u) | r);
    return result;
}
#endif
FUNCTION f32 from_bf16(bf16 x) { return bits_f32((u32)x.bits << 16); }
#ifndef NATIVE_BF16
FUNCTION bf16 to_bf16(f32 x) {
    u32 bits = f32_bits(x);
    bf16 result;
    if ((bits & 0x7fffffffu) > 0x7f800000u) result.bits = (u16)((bits >> 16) | 0x40u);
    else result.bits = (u16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    return result;
}
#endif
#ifndef NATIVE_F8
FUNCTION f32 from_f8e4m3(f8e4m3 x) {
    u32 sign = (u32)(x.bits & 0x80u) << 24, a = x.bits & 0x7fu;
    if (a == 0x7fu) return bits_f32(sign | 0x7fc00000u);
    if (a < 8u) return bits_f32(sign | f32_bits((f32)a * 0.001953125f));
    return bits_f32(sign | ((a << 20) + 0x3c000000u));
}
FUNCTION f8e4m3 to_f8e4m3(f32 x) {
    u32 bits = f32_bits(x), a = bits & 0x7fffffffu, r = 0x7fu;
    f8e4m3 result;
    if (a <= 0x7f800000u) {
        r = round_magnitude(a, 3, 7);
        if (r > 0x7fu) r = 0x7fu;
    }
    result.bits = (u8)(((bits >> 24) & 0x80u) | r);
    return result;
}
#endif
FUNCTION f32 from_f8e5m2(f8e5m2 x) {
    f16 wide;
    wide.bits = (u16)((u32)x.bits << 8);
    return from_f16(wide);
}
FUNCTION f8e5m2 to_f8e5m2(f32 x) {
    u32 bits = f32_bits(x), a = bits & 0x7fffffffu, r = 0x7eu;
    f8e5m2 result;
    if (a <= 0x7f800000u) {
        r = round_magnitude(a, 2, 15);
        if (r > 0x7cu) r = 0x7cu;
    }
    result.bits = (u8)(((bits >> 24) & 0x80u) | r);
    return result;
}
FUNCTION f16 to_f16_d(f64 x) { return to_f16(round_to_odd(x)); }
FUNCTION bf16 to_bf16_d(f64 x) { return to_bf16(round_to_odd(x)); }
FUNCTION f8e4m3 to_f8e4m3_d(f64 x) { return to_f8e4m3(round_to_odd(x)); }
FUNCTION f8e5m2 to_f8e5m2_d(f64 x) { return to_f8e5m2(round_to_odd(x)); }

FUNCTION f16 low_f16(u32 w) { f16 r; r.bits = (u16)w; return r; }
FUNCTION f16 high_f16(u32 w) { f16 r; r.bits = (u16)(w >> 16); return r; }
FUNCTION u32 pack_f16(f16 low, f16 high) { return (u32)low.bits | ((u32)high.bits << 16); }
FUNCTION bf16 low_bf16(u32 w) { bf16 r; r.bits = (u16)w; return r; }
FUNCTION bf16 high_bf16(u32 w) { bf16 r; r.bits = (u16)(w >> 16); return r; }
FUNCTION u32 pack_bf16(bf16 low, bf16 high) { return (u32)low.bits | ((u32)high.bits << 16); }
)SOURCE";

/// What stands before generated code on a GPU; the compiler is given -DBLOCK=<threads>.
inline constexpr std::string_view kDevicePrelude = R"SOURCE(
typedef double f64; typedef float f32;
typedef long long i64; typedef int i32; typedef short i16; typedef signed char i8;
typedef unsigned long long u64; typedef unsigned int u32; typedef unsigned short u16; typedef unsigned char u8; typedef unsigned char boolean;
typedef struct { u16 bits; } f16; typedef struct { u16 bits; } bf16; typedef struct { u8 bits; } f8e4m3; typedef struct { u8 bits; } f8e5m2;
typedef struct __align__(16) { u32 w[4]; } words4; typedef struct __align__(8) { u32 w[2]; } words2;

#define FUNCTION static __device__ __forceinline__
#define KERNEL(name) extern "C" __global__ void __launch_bounds__(BLOCK) name
#define THREAD ((int)threadIdx.x)
#define GROUP ((u64)blockIdx.x + (u64)blockIdx.y * gridDim.x)
#define GROUPS ((u64)gridDim.x * gridDim.y)
#define SHARED __shared__
#define BARRIER() __syncthreads()
#define RESTRICT __restrict__
#if __CUDA_ARCH__ >= 900
#define OVERLAP() asm volatile("griddepcontrol.wait; griddepcontrol.launch_dependents;" ::: "memory")
#else
#define OVERLAP() ((void)0)
#endif
#define GLOBAL
#define UNROLL _Pragma("unroll")
#define WARP 32
#define SHUFFLE_XOR_F32(value, mask) __shfl_xor_sync(0xffffffffu, (f32)(value), (mask))
#define SHUFFLE_XOR_F64(value, mask) __shfl_xor_sync(0xffffffffu, (f64)(value), (mask))
#define SHUFFLE_XOR_I32(value, mask) __shfl_xor_sync(0xffffffffu, (i32)(value), (mask))
#define SHUFFLE_XOR_I64(value, mask) __shfl_xor_sync(0xffffffffu, (i64)(value), (mask))

FUNCTION f32 quick_expf(f32 x) { return __expf(x); }
FUNCTION f32 quick_divf(f32 a, f32 b) { return __fdividef(a, b); }
FUNCTION f32 timesf(f32 a, f32 b) { return __fmul_rn(a, b); }
FUNCTION f64 times(f64 a, f64 b) { return __dmul_rn(a, b); }
FUNCTION u32 f32_bits(f32 x) { return __float_as_uint(x); }
FUNCTION f32 bits_f32(u32 x) { return __uint_as_float(x); }
FUNCTION u64 f64_bits(f64 x) { return (u64)__double_as_longlong(x); }
FUNCTION f64 bits_f64(u64 x) { return __longlong_as_double((i64)x); }
FUNCTION words4 load16(const void* p) {
    words4 r;
    uint4 v = *(const uint4*)p;
    r.w[0] = v.x; r.w[1] = v.y; r.w[2] = v.z; r.w[3] = v.w;
    return r;
}
FUNCTION void store16(void* p, words4 v) { *(uint4*)p = make_uint4(v.w[0], v.w[1], v.w[2], v.w[3]); }
FUNCTION words2 load8(const void* p) {
    words2 r;
    uint2 v = *(const uint2*)p;
    r.w[0] = v.x; r.w[1] = v.y;
    return r;
}
FUNCTION void store8(void* p, words2 v) { *(uint2*)p = make_uint2(v.w[0], v.w[1]); }
FUNCTION u32 load4(const void* p) { return *(const u32*)p; }
FUNCTION void store4(void* p, u32 v) { *(u32*)p = v; }

#define NATIVE_F16
FUNCTION f32 from_f16(f16 x) { f32 r; asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x.bits)); return r; }
FUNCTION f16 to_f16(f32 x) { f16 r; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(x)); return r; }
#if __CUDA_ARCH__ >= 900
#define NATIVE_BF16
FUNCTION bf16 to_bf16(f32 x) { bf16 r; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(r.bits) : "f"(x)); return r; }
#endif
#if __CUDA_ARCH__ >= 890
#define NATIVE_F8
FUNCTION f32 from_f8e4m3(f8e4m3 x) {
    u32 pair;
    f16 low;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(pair) : "h"((u16)x.bits));
    low.bits = (u16)pair;
    return from_f16(low);
}
// The instruction ends at 448; above 464, halfway to what would be next, the type says NaN.
FUNCTION f8e4m3 to_f8e4m3(f32 x) {
    u16 pair;
    f8e4m3 r;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(0.0f), "f"(x));
    r.bits = fabsf(x) <= 464.0f ? (u8)pair : (u8)(((__float_as_uint(x) >> 24) & 0x80u) | 0x7fu);
    return r;
}
#endif

#define ATOMIC_ADD_F32(where, value) ((void)atomicAdd((f32*)(where), (f32)(value)))
#define ATOMIC_ADD_F64(where, value) ((void)atomicAdd((f64*)(where), (f64)(value)))
#define ATOMIC_ADD_I32(where, value) ((void)atomicAdd((i32*)(where), (i32)(value)))
#define ATOMIC_ADD_I64(where, value) ((void)atomicAdd((u64*)(where), (u64)(i64)(value)))
#define ATOMIC_MIN_I32(where, value) ((void)atomicMin((i32*)(where), (i32)(value)))
#define ATOMIC_MAX_I32(where, value) ((void)atomicMax((i32*)(where), (i32)(value)))
#define ATOMIC_MIN_I64(where, value) ((void)atomicMin((i64*)(where), (i64)(value)))
#define ATOMIC_MAX_I64(where, value) ((void)atomicMax((i64*)(where), (i64)(value)))
#define ATOMIC_LOOP(name, T, W, to_bits, to_value, expression)                    \
    FUNCTION void name(T* where, T value) {                                       \
        W* word = (W*)where;                                                      \
        W seen = *(volatile W*)word, before;                                      \
        do {                                                                      \
            T old = to_value(seen), next = (expression);                          \
            before = seen;                                                        \
            if (to_bits(next) == before) return;                                  \
            seen = atomicCAS(word, before, to_bits(next));                        \
        } while (seen != before);                                                 \
    }
#define SAME_U32(x) ((u32)(x))
#define SAME_I32(x) ((i32)(x))
#define SAME_U64(x) ((u64)(x))
#define SAME_I64(x) ((i64)(x))
ATOMIC_LOOP(ATOMIC_MUL_F32, f32, u32, f32_bits, bits_f32, old * value)
ATOMIC_LOOP(ATOMIC_MIN_F32, f32, u32, f32_bits, bits_f32, value < old ? value : old)
ATOMIC_LOOP(ATOMIC_MAX_F32, f32, u32, f32_bits, bits_f32, value > old ? value : old)
ATOMIC_LOOP(ATOMIC_MUL_F64, f64, u64, f64_bits, bits_f64, old * value)
ATOMIC_LOOP(ATOMIC_MIN_F64, f64, u64, f64_bits, bits_f64, value < old ? value : old)
ATOMIC_LOOP(ATOMIC_MAX_F64, f64, u64, f64_bits, bits_f64, value > old ? value : old)
ATOMIC_LOOP(ATOMIC_MUL_I32, i32, u32, SAME_U32, SAME_I32, old * value)
ATOMIC_LOOP(ATOMIC_MUL_I64, i64, u64, SAME_U64, SAME_I64, old * value)
)SOURCE";

}  // namespace ai_vmm::cuda
