// SPDX-License-Identifier: Apache-2.0
/// The names of driver/prelude.hpp for a C compiler: every group has one thread, and groups run one after the other.
#pragma once

#include <string_view>

namespace ai_vmm::cuda::test {

/// Before kConversions and generated code. `group_` and `groups_` are set by the launcher, which runs one kernel of a module at a time (HostDevice).
inline constexpr std::string_view kHostPrelude = R"SOURCE(
typedef double f64; typedef float f32;
typedef long long i64; typedef int i32; typedef short i16; typedef signed char i8;
typedef unsigned long long u64; typedef unsigned int u32; typedef unsigned short u16; typedef unsigned char u8; typedef unsigned char boolean;
typedef struct { u16 bits; } f16; typedef struct { u16 bits; } bf16; typedef struct { u8 bits; } f8e4m3; typedef struct { u8 bits; } f8e5m2;
typedef struct { u32 w[4]; } __attribute__((aligned(16))) words4; typedef struct { u32 w[2]; } __attribute__((aligned(8))) words2;

static u64 group_, groups_;
#define FUNCTION static inline
#define KERNEL(name) void name
#define BLOCK 1
#define THREAD 0
#define GROUP group_
#define GROUPS groups_
#define SHARED static
#define BARRIER() ((void)0)
#define RESTRICT restrict
#define GLOBAL
#define UNROLL
#define WARP 1
#define SHUFFLE_XOR_F32(value, mask) ((void)(mask), (f32)(value))
#define SHUFFLE_XOR_F64(value, mask) ((void)(mask), (f64)(value))
#define SHUFFLE_XOR_I32(value, mask) ((void)(mask), (i32)(value))
#define SHUFFLE_XOR_I64(value, mask) ((void)(mask), (i64)(value))

#define MATH1(name) f64 name(f64); f32 name##f(f32);
#define MATH2(name) f64 name(f64, f64); f32 name##f(f32, f32);
MATH1(exp) MATH1(exp2) MATH1(expm1) MATH1(log) MATH1(log2) MATH1(log10) MATH1(log1p) MATH1(sqrt) MATH1(cbrt) MATH1(tanh) MATH1(erf) MATH1(erfc)
MATH1(floor) MATH1(ceil) MATH1(round) MATH1(rint) MATH1(trunc) MATH1(fabs) MATH1(sin) MATH1(cos) MATH1(tan) MATH1(asin) MATH1(acos) MATH1(atan)
MATH1(sinh) MATH1(cosh) MATH1(asinh) MATH1(acosh) MATH1(atanh)
MATH2(pow) MATH2(fmax) MATH2(fmin) MATH2(fmod) MATH2(atan2) MATH2(copysign) MATH2(hypot)
f64 ldexp(f64, int); f32 ldexpf(f32, int); f64 fma(f64, f64, f64); f32 fmaf(f32, f32, f32);
FUNCTION int isnan_(f64 x) { return x != x; }
FUNCTION int isinf_(f64 x) { return x - x != 0 && x == x; }
#define isnan(x) isnan_(x)
#define isinf(x) isinf_(x)

FUNCTION f32 quick_expf(f32 x) { return expf(x); }
FUNCTION f32 quick_divf(f32 a, f32 b) { return a / b; }
FUNCTION f32 timesf(f32 a, f32 b) { return a * b; }
FUNCTION f64 times(f64 a, f64 b) { return a * b; }
FUNCTION u32 f32_bits(f32 x) { union { f32 f; u32 u; } v; v.f = x; return v.u; }
FUNCTION f32 bits_f32(u32 x) { union { f32 f; u32 u; } v; v.u = x; return v.f; }
FUNCTION u64 f64_bits(f64 x) { union { f64 f; u64 u; } v; v.f = x; return v.u; }
FUNCTION f64 bits_f64(u64 x) { union { f64 f; u64 u; } v; v.u = x; return v.f; }
FUNCTION words4 load16(const void* p) { return *(const words4*)p; }
FUNCTION void store16(void* p, words4 v) { *(words4*)p = v; }
FUNCTION words2 load8(const void* p) { return *(const words2*)p; }
FUNCTION void store8(void* p, words2 v) { *(words2*)p = v; }
FUNCTION u32 load4(const void* p) { return *(const u32*)p; }
FUNCTION void store4(void* p, u32 v) { *(u32*)p = v; }

#define ATOMIC_LOOP(name, T, expression) FUNCTION void name(T* where, T value) { T old = *where; *where = (expression); }
#define ATOMICS(suffix, T, WRAPPING)                                          \
    ATOMIC_LOOP(ATOMIC_ADD_##suffix, T, (T)((WRAPPING)old + (WRAPPING)value)) \
    ATOMIC_LOOP(ATOMIC_MUL_##suffix, T, (T)((WRAPPING)old * (WRAPPING)value)) \
    ATOMIC_LOOP(ATOMIC_MIN_##suffix, T, value < old ? value : old)            \
    ATOMIC_LOOP(ATOMIC_MAX_##suffix, T, value > old ? value : old)
ATOMICS(F32, f32, f32) ATOMICS(F64, f64, f64) ATOMICS(I32, i32, u32) ATOMICS(I64, i64, u64)
)SOURCE";

}  // namespace ai_vmm::cuda::test
