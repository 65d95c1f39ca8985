// SPDX-License-Identifier: Apache-2.0
/// The device's prelude through NVRTC: every name of it in kernels, which the C compiler must take too.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "ai_vmm/error.hpp"
#include "cuda/host_device.hpp"
#include "cuda/kept_fixture.hpp"
#include "device/shared_library.hpp"
#include "driver/choice_store.hpp"
#include "driver/kernel_compiler.hpp"
#include "driver/nvrtc.hpp"
#include "driver/overlap.hpp"

namespace ai_vmm::cuda::test {
namespace {

/// Uses each name that driver/prelude.hpp promises.
std::string every_name() {
    std::string source;
    int count = 0;
    const auto kernel = [&](const std::string& parameters, const std::string& body) {
        source += std::string(kModulePart) + "KERNEL(k" + std::to_string(count++) + ")(" + parameters + ") {\n" + body + "\n}\n";
    };
    for (const std::string type : {"f16", "bf16", "f8e4m3", "f8e5m2"}) {
        kernel("const " + type + "* RESTRICT a, " + type + "* RESTRICT b, f64 scale, i64 n",
               "    i64 i;\n    for (i = (i64)GROUP * BLOCK + THREAD; i < n; i += (i64)GROUPS * BLOCK) {\n        f32 x = from_" + type +
                   "(a[i]);\n        b[i] = x > 1.0f ? to_" + type + "(x * 2.0f) : to_" + type + "_d((f64)x * scale);\n    }");
    }
    std::string singles, doubles;
    for (const std::string name :
         {"exp",  "exp2",  "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "tanh", "erf",  "erfc",  "floor", "ceil", "round",
          "rint", "trunc", "fabs",  "sin", "cos",  "tan",   "asin",  "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh"}) {
        singles += "    y += " + name + "f(x);\n";
        doubles += "    y += " + name + "(x);\n";
    }
    for (const std::string name : {"pow", "fmax", "fmin", "fmod", "atan2", "copysign", "hypot"}) {
        singles += "    y += " + name + "f(x, 3.0f);\n";
        doubles += "    y += " + name + "(x, 3.0);\n";
    }
    kernel("f32* a", "    f32 x = a[THREAD], y = isnan(x) || isinf(x) ? 1.0f : 0.0f;\n" + singles + "    a[THREAD] = fmaf(ldexpf(y, 2), x, y);");
    kernel("f64* a", "    f64 x = a[THREAD], y = isnan(x) || isinf(x) ? 1.0 : 0.0;\n" + doubles + "    a[THREAD] = fma(ldexp(y, 2), x, y);");
    std::string atomics;
    for (const std::string name : {"ADD", "MUL", "MIN", "MAX"}) {
        atomics +=
            "    ATOMIC_" + name + "_F32(a, 1.5f); ATOMIC_" + name + "_F64(b, 1.5); ATOMIC_" + name + "_I32(c, 2); ATOMIC_" + name + "_I64(d, 3);\n";
    }
    kernel("f32* a, f64* b, i32* c, i64* d", atomics);
    kernel("const void* a, void* b, u64* c, u32* d",
           "    words4 w = load16((const char*)a + 16 * THREAD);\n    words2 v = load8(a);\n    f16 h = low_f16(w.w[0]), g = high_f16(w.w[1]);\n"
           "    bf16 p = low_bf16(w.w[2]), q = high_bf16(w.w[3]);\n    w.w[0] = pack_f16(g, h);\n    w.w[1] = pack_bf16(p, q);\n"
           "    store16((char*)b + 16 * THREAD, w);\n    store8(b, v);\n    store4(b, load4(a) + 1u);\n    c[THREAD] = f64_bits(bits_f64(c[THREAD]) "
           "+ 1.0);\n"
           "    d[THREAD] = f32_bits(bits_f32(d[THREAD]) + 1.0f);");
    kernel("const f32* GLOBAL a, f32* GLOBAL b, f64* c, i32* d, i64* e",
           "    SHARED f32 part[BLOCK];\n    f32 x = a[THREAD];\n    int step;\n    part[THREAD] = x;\n    BARRIER();\n"
           "    for (step = BLOCK / 2; step > 0; step /= 2) {\n        if (THREAD < step) part[THREAD] += part[THREAD + step];\n        BARRIER();\n "
           "   }\n"
           "    UNROLL for (step = WARP / 2; step > 0; step /= 2) {\n        x += SHUFFLE_XOR_F32(x, step);\n        c[THREAD] += "
           "SHUFFLE_XOR_F64(c[THREAD], "
           "step);\n        d[THREAD] += SHUFFLE_XOR_I32(d[THREAD], step);\n        e[THREAD] += SHUFFLE_XOR_I64(e[THREAD], step);\n    }\n"
           "    if (THREAD == 0) b[GROUP] = part[0] + x;");
    kernel("u8* a, u16* b, i8* c, i16* d, boolean* e", "    a[0] = (u8)(b[0] + c[0] + d[0]);\n    e[0] = a[0] != 0;");
    return "FUNCTION f32 common(f32 x) { return x + 1.0f; }\n" + source;
}

class WithNvrtc : public testing::Test {
protected:
    void SetUp() override {
        if (std::getenv("AI_VMM_CUDA_LIBRARIES") == nullptr) ::setenv("AI_VMM_CUDA_LIBRARIES", AI_VMM_TEST_CUDA_ENV "/lib", 1);
        try {
            (void)Nvrtc::get();
        } catch (const Error& error) {
            GTEST_SKIP() << error.what();
        }
    }
    KeptInAFolder folder_;
};

TEST(CudaSources, TheCCompilerTakesEveryName) {
    HostDevice device;
    const auto module = device.load(every_name());
    EXPECT_NE(module->kernel("k0"), nullptr);
}

TEST_F(WithNvrtc, CompilesEveryNameForEveryGeneration) {
    for (const int compute : {75, 80, 86, 89, 90, 100, 120}) {
        const auto code = compile_kernels(with_overlap(every_name()), {.compute = compute, .threads_per_block = 256, .driver_version = 13000});
        ASSERT_FALSE(code.empty());
        for (const auto& image : code)
            EXPECT_EQ(image->substr(0, 4),
                      "\x7f"
                      "ELF")
                << compute;
    }
}

TEST(CudaSources, EveryKernelWaitsForTheOneBefore) {
    EXPECT_EQ(
        with_overlap("FUNCTION int f(int x) { return x; }\nKERNEL(k0)(f32* a, f32 (*b)(int)) {\n a[0] = 1; }\nKERNEL(k1)(P) { f(2); }"),
        "FUNCTION int f(int x) { return x; }\nKERNEL(k0)(f32* a, f32 (*b)(int)) { OVERLAP();\n a[0] = 1; }\nKERNEL(k1)(P) { OVERLAP(); f(2); }");
    EXPECT_EQ(with_overlap("KERNEL(k"), "KERNEL(k");
}

TEST(CudaChoices, OutliveTheProcessPerDeviceAndDriver) {
    KeptInAFolder folder;
    Capabilities device;
    device.name = "a GPU";
    device.compute_major = 9;
    const ChoiceStore store(device, 13000);
    EXPECT_EQ(store.find("product of 3 and 4"), std::nullopt);
    store.keep("product of 3 and 4", "engine 7");
    EXPECT_EQ(ChoiceStore(device, 13000).find("product of 3 and 4"), "engine 7");
    EXPECT_EQ(ChoiceStore(device, 13010).find("product of 3 and 4"), std::nullopt);
    device.name = "another GPU";
    EXPECT_EQ(ChoiceStore(device, 13000).find("product of 3 and 4"), std::nullopt);

    // Listed, and gone with the rest.
    const CacheReport report = folder.store().report();
    ASSERT_EQ(report.entries.size(), 1U);
    EXPECT_EQ(report.entries[0].kind, "library choice");
    EXPECT_EQ(report.entries[0].model, "cuda");
    device.name = "a GPU";
    folder.store().clear();
    EXPECT_EQ(ChoiceStore(device, 13000).find("product of 3 and 4"), std::nullopt);
}

TEST(CudaChoices, AreNotKeptWithoutAPlace) {
    keep_in(nullptr);
    Capabilities device;
    const ChoiceStore store(device, 13000);
    store.keep("product of 3 and 4", "engine 7");
    EXPECT_EQ(store.find("product of 3 and 4"), std::nullopt);
    KeptInAFolder folder;
    EXPECT_EQ(store.find("product of 3 and 4"), std::nullopt);
    store.keep("product of 3 and 4", "engine 7");
    EXPECT_EQ(store.find("product of 3 and 4"), "engine 7") << "the place is looked up at each use";
}

TEST_F(WithNvrtc, AGpuTooNewForTheCompilerGetsPtx) {
    const auto code =
        compile_kernels("KERNEL(k)(f32* a) { a[THREAD] = 1.0f; }\n", {.compute = 999, .threads_per_block = 256, .driver_version = 13000});
    ASSERT_EQ(code.size(), 1U);
    EXPECT_NE(code.front()->find(".entry k("), std::string::npos);
}

std::vector<std::string> contents(const DeviceCode& code) {
    std::vector<std::string> all;
    for (const auto& image : code) all.push_back(*image);
    return all;
}

std::string module_of(const std::vector<std::string>& kernels) {
    std::string source = "FUNCTION f32 twice(f32 x) { return x + x; }\n";
    for (const std::string& name : kernels)
        source += std::string(kModulePart) + "KERNEL(" + name + ")(f32* a) { a[THREAD] = twice(" + std::to_string(name.back()) + ".0f); }\n";
    return source;
}

TEST_F(WithNvrtc, WhatAnotherSourceHadIsNotCompiledAgain) {
    const CodeTarget hopper{.compute = 90, .threads_per_block = 256, .driver_version = 13000};
    forget_compiled_kernels();
    const auto start = compiler_counters();
    const auto first = compile_kernels(module_of({"kernel_named_a", "kernel_named_b", "kernel_named_c"}), hopper);
    EXPECT_EQ(compiler_counters().compiled, start.compiled + 3);
    const auto second = compile_kernels(module_of({"kernel_named_d", "kernel_named_b", "kernel_named_a"}), hopper);
    EXPECT_EQ(compiler_counters().compiled, start.compiled + 4);
    EXPECT_EQ(compiler_counters().from_process, start.from_process + 2);
    const auto has = [](const DeviceCode& code, const std::string& name) {
        return std::ranges::any_of(code, [&](const auto& image) { return image->find(name) != std::string::npos; });
    };
    for (const char* const name : {"kernel_named_a", "kernel_named_b", "kernel_named_d"}) EXPECT_TRUE(has(second, name)) << name;
    // A later process, too, knows which image has what.
    forget_compiled_kernels();
    EXPECT_EQ(contents(compile_kernels(module_of({"kernel_named_d", "kernel_named_b", "kernel_named_a"}), hopper)), contents(second));
    EXPECT_EQ(compiler_counters().from_store, start.from_store + 3);
    EXPECT_TRUE(has(compile_kernels(module_of({"kernel_named_b", "kernel_named_d"}), hopper), "kernel_named_d"));
    EXPECT_EQ(compiler_counters().compiled, start.compiled + 4);
    // What stands before the parts belongs to each.
    (void)compile_kernels("// another\n" + module_of({"kernel_named_a"}), hopper);
    EXPECT_EQ(compiler_counters().compiled, start.compiled + 5);
}

TEST_F(WithNvrtc, SecondProcessFindsTheCode) {
    const std::string source = "KERNEL(k)(f32* a) { a[THREAD] = 42.0f; }\n";
    const CodeTarget hopper{.compute = 90, .threads_per_block = 256, .driver_version = 13000};
    const auto start = compiler_counters();
    const auto first = compile_kernels(source, hopper);
    EXPECT_EQ(compiler_counters().compiled, start.compiled + 1);
    const CacheReport report = folder_.store().report();
    ASSERT_EQ(report.entries.size(), 1U);
    EXPECT_EQ(report.entries[0].kind, "CUDA kernels");
    EXPECT_EQ(contents(compile_kernels(source, hopper)), contents(first));
    EXPECT_EQ(compiler_counters().from_process, start.from_process + 1);

    forget_compiled_kernels();
    EXPECT_EQ(contents(compile_kernels(source, hopper)), contents(first));
    EXPECT_EQ(compiler_counters().from_store, start.from_store + 1);
    EXPECT_EQ(compiler_counters().compiled, start.compiled + 1);

    // Another target, and a damaged entry, compile anew.
    (void)compile_kernels(source, {.compute = 80, .threads_per_block = 256, .driver_version = 13000});
    EXPECT_EQ(compiler_counters().compiled, start.compiled + 2);
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.path())) {
        if (entry.is_regular_file() && entry.file_size() > 0) std::filesystem::resize_file(entry.path(), entry.file_size() / 2);
    }
    forget_compiled_kernels();
    EXPECT_EQ(contents(compile_kernels(source, hopper)), contents(first));
    EXPECT_EQ(compiler_counters().compiled, start.compiled + 3);
}

TEST_F(WithNvrtc, MessagesAreReported) {
    try {
        (void)compile_kernels("KERNEL(k)(f32* a) { undeclared_thing = a; }\n", {.compute = 90, .threads_per_block = 256, .driver_version = 13000});
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::internal);
        EXPECT_NE(std::string(error.what()).find("undeclared_thing"), std::string::npos);
    }
}

TEST(CudaLibraries, AMissingOneIsNamed) {
    const auto library = SharedLibrary::open("cuNothing", "libcunothing.so.1");
    EXPECT_FALSE(library);
    EXPECT_NE(library.reason().find("cuNothing"), std::string::npos);
    EXPECT_NE(library.reason().find("libcunothing.so.1"), std::string::npos);
}

}  // namespace
}  // namespace ai_vmm::cuda::test
