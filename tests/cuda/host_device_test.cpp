// SPDX-License-Identifier: Apache-2.0
/// The device that other tests stand on, and the preludes' conversions against OpenVINO's types.
#include "cuda/host_device.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <openvino/core/type/bfloat16.hpp>
#include <openvino/core/type/float16.hpp>
#include <openvino/core/type/float8_e4m3.hpp>
#include <openvino/core/type/float8_e5m2.hpp>
#include <random>

#include "ai_vmm/error.hpp"

namespace ai_vmm::cuda::test {
namespace {

std::uint32_t bits(float x) {
    std::uint32_t u = 0;
    std::memcpy(&u, &x, 4);
    return u;
}
float value(std::uint32_t u) {
    float x = 0;
    std::memcpy(&x, &u, 4);
    return x;
}

/// Runs kernel(const In*, Out*, i64) over `input` in one launch of 7 groups.
template <typename Out, typename In>
std::vector<Out> map(HostDevice& device, const std::string& source, const std::vector<In>& input) {
    const auto module = device.load(source);
    const auto kernel = module->kernel("convert");
    auto stream = device.create_stream();
    const auto from = device.allocate(input.size() * sizeof(In)), to = device.allocate(input.size() * sizeof(Out));
    stream->upload(from, input.data(), input.size() * sizeof(In));
    auto count = static_cast<long long>(input.size());
    auto a = from, b = to;
    void* const arguments[] = {&a, &b, &count};
    stream->launch(kernel, {.grid = {7, 1, 1}}, arguments);
    std::vector<Out> output(input.size());
    stream->download(output.data(), to, output.size() * sizeof(Out));
    stream->synchronize();
    device.release(from);
    device.release(to);
    return output;
}

std::string converter(const std::string& from, const std::string& to, const std::string& call) {
    return "KERNEL(convert)(const " + from + "* RESTRICT a, " + to + "* RESTRICT b, i64 n) {\n    i64 i;\n" +
           "    for (i = (i64)GROUP * BLOCK + THREAD; i < n; i += (i64)GROUPS * BLOCK) b[i] = " + call + "(a[i]);\n}\n";
}

/// Every value of the narrow types, the values halfway between, and a neighbour on each side, and a million random ones.
std::vector<float> hard_values() {
    std::vector<float> values;
    for (std::uint32_t high = 0; high < 65536; ++high) {
        for (const std::uint32_t low : {0x0000U, 0x0001U, 0x0fffU, 0x1000U, 0x1001U, 0x7fffU, 0x8000U, 0x8001U, 0xffffU})
            values.push_back(value(high << 16 | low));
    }
    std::mt19937 random(7);
    for (int i = 0; i < 1'000'000; ++i) values.push_back(value(random()));
    return values;
}

template <typename Type, typename Raw>
void check_decoding(const std::string& name) {
    HostDevice device;
    std::vector<Raw> all;
    for (std::uint32_t i = 0; i <= std::numeric_limits<Raw>::max(); ++i) all.push_back(static_cast<Raw>(i));
    const auto decoded = map<float>(device, converter(name, "f32", "from_" + name), all);
    for (std::size_t i = 0; i < all.size(); ++i) {
        const auto expected = static_cast<float>(Type::from_bits(all[i]));
        if (std::isnan(expected)) {
            ASSERT_TRUE(std::isnan(decoded[i])) << name << " " << i;
        } else {
            ASSERT_EQ(bits(decoded[i]), bits(expected)) << name << " " << i;
        }
    }
    const auto again = map<Raw>(device, converter("f32", name, "to_" + name), decoded);
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (!std::isnan(decoded[i])) {
            ASSERT_EQ(again[i], all[i]) << name;
        } else {
            ASSERT_TRUE(std::isnan(static_cast<float>(Type::from_bits(again[i])))) << name << " " << i;
        }
    }
}

/// The nearest value with `mantissa` bits and exponents from `least`, ties to even, computed in f64.
double nearest(double x, int mantissa, int least) {
    const auto unit = std::max(x == 0 ? least : std::ilogb(x), least) - mantissa;
    return std::ldexp(std::nearbyint(std::ldexp(x, -unit)), unit);
}

/// Against arithmetic for every hard value; against OpenVINO's type where it rounds once: values that are exact or halfway.
template <typename Type, typename Raw>
void check_encoding(const std::string& name, int mantissa, int least, double largest, bool infinite) {
    HostDevice device;
    const auto values = hard_values();
    const auto encoded = map<Raw>(device, converter("f32", name, "to_" + name), values);
    for (std::size_t i = 0; i < values.size(); ++i) {
        const double x = values[i];
        const auto got = static_cast<float>(Type::from_bits(encoded[i]));
        const double expected = nearest(x, mantissa, least);
        if (std::isnan(x) || (std::abs(expected) > largest && !infinite)) {
            ASSERT_TRUE(std::isnan(got)) << name << " of " << x;
        } else if (std::isinf(x) || std::abs(expected) > largest) {
            ASSERT_EQ(got, std::copysign(INFINITY, x)) << name << " of " << x;
        } else {
            ASSERT_EQ(got, expected) << name << " of " << x;
            ASSERT_EQ(std::signbit(got), std::signbit(x)) << name << " of " << x;
        }
        const bool plain = name != "bf16" && !std::isnan(x) && nearest(x, mantissa + 1, least) == x;
        if (plain) {
            ASSERT_EQ(encoded[i], Type(values[i]).to_bits()) << name << " of " << x;
        }
    }
}

TEST(CudaPrelude, DecodesEveryValueAsOpenVino) {
    check_decoding<ov::float16, std::uint16_t>("f16");
    check_decoding<ov::bfloat16, std::uint16_t>("bf16");
    check_decoding<ov::float8_e4m3, std::uint8_t>("f8e4m3");
    check_decoding<ov::float8_e5m2, std::uint8_t>("f8e5m2");
}

TEST(CudaPrelude, EncodesToTheNearestEven) {
    check_encoding<ov::float16, std::uint16_t>("f16", 10, -14, 65504, true);
    check_encoding<ov::bfloat16, std::uint16_t>("bf16", 7, -126, std::ldexp(255, 120), true);
    check_encoding<ov::float8_e4m3, std::uint8_t>("f8e4m3", 3, -6, 448, false);
    check_encoding<ov::float8_e5m2, std::uint8_t>("f8e5m2", 2, -14, 57344, true);
}

TEST(CudaPrelude, DoublesAreRoundedOnce) {
    HostDevice device;
    // Just above halfway between two f16: rounding to f32 first would lose the part that decides.
    const double tie = 1.0 + std::ldexp(1.0, -11), above = tie + std::ldexp(1.0, -40), below = tie - std::ldexp(1.0, -40);
    const std::vector<double> values{tie, above, below, -above, 1e300, -1e300, std::nan(""), 5e-324, 65519.999999999, 65520.0};
    const auto encoded = map<std::uint16_t>(device, converter("f64", "f16", "to_f16_d"), values);
    EXPECT_EQ(encoded[0], 0x3c00);
    EXPECT_EQ(encoded[1], 0x3c01);
    EXPECT_EQ(encoded[2], 0x3c00);
    EXPECT_EQ(encoded[3], 0xbc01);
    EXPECT_EQ(encoded[4], 0x7c00);
    EXPECT_EQ(encoded[5], 0xfc00);
    EXPECT_GT(encoded[6] & 0x7fff, 0x7c00);
    EXPECT_EQ(encoded[7], 0);
    EXPECT_EQ(encoded[8], 0x7bff);
    EXPECT_EQ(encoded[9], 0x7c00);
}

TEST(HostDevice, ComparesNanAsC) {
    HostDevice device;
    const std::string source =
        "KERNEL(convert)(const f32* a, i32* b, i64 n) {\n    i64 i;\n    for (i = GROUP; i < n; i += GROUPS) {\n        f32 x = a[i];\n"
        "        b[i] = (x < 1.0f) | (x > 1.0f) << 1 | (x == x) << 2 | (x != x) << 3 | !(x < 1.0f) << 4 | (x >= 1.0f ? 32 : 0) | (isnan(x) != 0) << "
        "6 | "
        "(isinf(x) != 0) << 7;\n        if (!(x <= 1.0f)) b[i] |= 256;\n    }\n}\n";
    const auto result = map<std::int32_t>(device, source, std::vector<float>{NAN, 0.5F, 2.0F, INFINITY});
    EXPECT_EQ(result[0], 8 | 16 | 64 | 256);
    EXPECT_EQ(result[1], 1 | 4);
    EXPECT_EQ(result[2], 2 | 4 | 16 | 32 | 256);
    EXPECT_EQ(result[3], 2 | 4 | 16 | 32 | 128 | 256);
}

HostDeviceOptions silent() {
    return {.on_problem = [](const std::string&) {}};
}

TEST(HostDevice, SeesWritesOutsideAnAllocation) {
#if defined(__SANITIZE_ADDRESS__)
    GTEST_SKIP() << "the address sanitizer sees these first";
#endif
    HostDevice device(silent());
    const auto module = device.load("KERNEL(beyond)(f32* a, i64 at) { a[at] = 1.0f; }\n");
    auto stream = device.create_stream();
    auto pointer = device.allocate(16);
    for (long long at : {3LL, 4LL, -1LL}) {
        void* const arguments[] = {&pointer, &at};
        stream->launch(module->kernel("beyond"), {}, arguments);
        device.check();
        EXPECT_EQ(device.problems().size(), at == 3 ? 0U : at == 4 ? 1U : 2U);
    }
    device.release(pointer);
    device.release(pointer);
    EXPECT_EQ(device.problems().size(), 3U);
}

TEST(HostDevice, ReportsLeaks) {
    std::vector<std::string> problems;
    {
        HostDevice device({.on_problem = [&](const std::string& text) { problems.push_back(text); }});
        (void)device.allocate(100);
    }
    ASSERT_EQ(problems.size(), 1U);
    EXPECT_NE(problems[0].find("100 bytes"), std::string::npos);
}

TEST(HostDevice, MemoryStartsPoisonedAndIsLimited) {
    HostDevice device({.memory_bytes = 1000, .on_problem = [](const std::string&) {}});
    const auto pointer = device.allocate(600);
    auto stream = device.create_stream();
    std::vector<unsigned char> content(600);
    stream->download(content.data(), pointer, 600);
    stream->synchronize();
    EXPECT_EQ(content, std::vector<unsigned char>(600, 0xCD));
    EXPECT_EQ(device.problems(), std::vector<std::string>{"a download of 600 bytes has 600 in a row that nothing wrote"});
    stream->fill(pointer, 1, 590);
    stream->download(content.data(), pointer, 600);
    stream->synchronize();
    EXPECT_EQ(device.problems().size(), 1U) << "a few bytes may be what was computed";
    try {
        (void)device.allocate(500);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::resource_exhausted);
        EXPECT_NE(std::string(error.what()).find("400 bytes free"), std::string::npos);
    }
    EXPECT_THROW(stream->fill(pointer + 300, 0, 301), Error);
    EXPECT_EQ(device.free_bytes(), 400);
    device.release(pointer);
    EXPECT_EQ(device.counters().peak_allocated_bytes, 600);
    EXPECT_EQ(device.free_bytes(), 1000);
}

TEST(HostDevice, WorkWaitsForSynchronize) {
    HostDevice device;
    auto stream = device.create_stream();
    auto* const staging = static_cast<int*>(device.allocate_pinned(4));
    *staging = 1;
    const auto pointer = device.allocate(4);
    stream->upload(pointer, staging, 4);
    *staging = 2;  // too early: the upload has not run
    int result = 0;
    stream->download(&result, pointer, 4);
    EXPECT_EQ(result, 0);
    stream->synchronize();
    EXPECT_EQ(result, 2);
    device.release(pointer);
    device.release_pinned(staging);
}

TEST(HostDevice, RecordsAndRepeats) {
    HostDevice device;
    const auto module = device.load("KERNEL(add)(i32* a, i32 by) { if (GROUP == 0) a[0] += by; }\n");
    auto stream = device.create_stream();
    auto pointer = device.allocate(4);
    stream->fill(pointer, 0, 4);
    stream->begin_recording();
    int by = 5;
    void* const arguments[] = {&pointer, &by};
    stream->launch(module->kernel("add"), {}, arguments);
    by = 100;  // arguments were taken at launch
    EXPECT_THROW(stream->upload(pointer, &by, 4), Error);
    EXPECT_THROW((void)device.allocate(4), Error);
    EXPECT_THROW(stream->synchronize(), Error);
    const auto graph = stream->end_recording();
    int result = -1;
    stream->download(&result, pointer, 4);
    stream->synchronize();
    EXPECT_EQ(result, 0);
    for (int i = 0; i < 3; ++i) stream->launch(*graph);
    stream->download(&result, pointer, 4);
    stream->synchronize();
    EXPECT_EQ(result, 15);
    EXPECT_EQ(device.counters().kernels_run, 3);
    device.release(pointer);
}

TEST(HostDevice, FailsWhereItIsTold) {
    HostDevice device;
    auto stream = device.create_stream();
    device.inject(Call::allocate, Failure::out_of_memory, 1);
    const auto pointer = device.allocate(4);
    EXPECT_THROW((void)device.allocate(4), Error);
    device.inject(Call::synchronize, Failure::once);
    EXPECT_THROW(stream->synchronize(), Error);
    EXPECT_NO_THROW(stream->synchronize());
    EXPECT_TRUE(device.failure().empty());
    device.inject(Call::fill, Failure::sticky);
    EXPECT_THROW(stream->fill(pointer, 0, 4), Error);
    EXPECT_FALSE(device.failure().empty());
    EXPECT_THROW(stream->synchronize(), Error);
    device.release(pointer);
}

TEST(HostDevice, CompilerMessagesAreReported) {
    HostDevice device;
    try {
        (void)device.load("KERNEL(wrong)(f32* a) { undeclared_thing = a; }\n");
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::internal);
        EXPECT_NE(std::string(error.what()).find("undeclared_thing"), std::string::npos);
    }
    const auto module = device.load("KERNEL(right)(f32* a) { a[0] = 0; }\n");
    EXPECT_THROW((void)module->kernel("left"), Error);
}

TEST(HostDevice, ParametersMayBeAMacro) {
    HostDevice device;
    const std::string source =
        "#define T f32\n#define first_P const T* RESTRICT a, T* RESTRICT b, i64 n\nKERNEL(first)(first_P) { b[0] = a[0]; }\n#undef T\n#define T u8\n"
        "#define convert_P const T* RESTRICT a, T* RESTRICT b, i64 n\nKERNEL(convert)(convert_P) {\n    if ((i64)GROUP < n) { b[GROUP] = a[GROUP] + "
        "1; }\n}\n";
    EXPECT_EQ(map<unsigned char>(device, source, std::vector<unsigned char>{1, 2, 3}), (std::vector<unsigned char>{2, 3, 4}));
}

TEST(HostDevice, AtomicUpdates) {
    HostDevice device;
    const std::string source =
        "KERNEL(convert)(const f32* a, f32* b, i64 n) {\n    if (GROUP == 0) { b[0] = 0.0f; b[1] = 1.0f; b[2] = 1e9f; b[3] = -1e9f; }\n"
        "    if ((i64)GROUP < n) { ATOMIC_ADD_F32(b, a[GROUP]); ATOMIC_MUL_F32(b + 1, a[GROUP]); ATOMIC_MIN_F32(b + 2, a[GROUP]); "
        "ATOMIC_MAX_F32(b + 3, a[GROUP]); }\n}\n";
    EXPECT_EQ(map<float>(device, source, std::vector<float>{2, 3, -4, 5}), (std::vector<float>{6, -120, -4, 5}));
}

}  // namespace
}  // namespace ai_vmm::cuda::test
