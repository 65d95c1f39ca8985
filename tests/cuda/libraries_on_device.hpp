// SPDX-License-Identifier: Apache-2.0
/// Library calls on a GPU against a plain reference in double precision on the host: what the tests of every kind share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <openvino/core/type/bfloat16.hpp>
#include <openvino/core/type/float16.hpp>
#include <openvino/core/type/float8_e4m3.hpp>
#include <random>

#include "cuda/trial.hpp"
#include "libraries/specs.hpp"
#include "libraries/vendor_libraries.hpp"

namespace ai_vmm::cuda::test {

using Values = std::vector<double>;

template <typename T>
std::vector<std::byte> encoded_as(const Values& values) {
    std::vector<std::byte> bytes(values.size() * sizeof(T));
    for (std::size_t i = 0; i < values.size(); ++i) {
        const T value = [&] {
            if constexpr (std::is_arithmetic_v<T>) {
                return static_cast<T>(values[i]);
            } else {
                return T(static_cast<float>(values[i]));
            }
        }();
        std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
    }
    return bytes;
}

template <typename T>
Values decoded_as(const std::vector<std::byte>& bytes) {
    Values values(bytes.size() / sizeof(T));
    for (std::size_t i = 0; i < values.size(); ++i) {
        T value{};
        std::memcpy(&value, bytes.data() + i * sizeof(T), sizeof(T));
        if constexpr (std::is_arithmetic_v<T>) {
            values[i] = static_cast<double>(value);
        } else {
            values[i] = static_cast<double>(static_cast<float>(value));
        }
    }
    return values;
}

inline std::vector<std::byte> encode(Type type, const Values& values) {
    switch (type) {
        case Type::f64: return encoded_as<double>(values);
        case Type::f16: return encoded_as<ov::float16>(values);
        case Type::bf16: return encoded_as<ov::bfloat16>(values);
        case Type::f8e4m3: return encoded_as<ov::float8_e4m3>(values);
        case Type::i8: return encoded_as<std::int8_t>(values);
        case Type::i32: return encoded_as<std::int32_t>(values);
        default: return encoded_as<float>(values);
    }
}

inline Values decode(Type type, const std::vector<std::byte>& bytes) {
    switch (type) {
        case Type::f64: return decoded_as<double>(bytes);
        case Type::f16: return decoded_as<ov::float16>(bytes);
        case Type::bf16: return decoded_as<ov::bfloat16>(bytes);
        case Type::f8e4m3: return decoded_as<ov::float8_e4m3>(bytes);
        case Type::i8: return decoded_as<std::int8_t>(bytes);
        case Type::i32: return decoded_as<std::int32_t>(bytes);
        default: return decoded_as<float>(bytes);
    }
}

/// Of the difference's norm to the expectation's.
inline double tolerance(Type type, bool tf32 = false) {
    switch (type) {
        case Type::f64: return 1e-13;
        case Type::f16: return 5e-3;
        case Type::bf16: return 3e-2;
        case Type::i32: return 0;
        default: return tf32 ? 2e-3 : 1e-5;
    }
}

inline double relative_error(const Values& found, const Values& expected) {
    double difference = 0;
    double norm = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
        if (!std::isfinite(found[i])) return INFINITY;
        difference += (found[i] - expected[i]) * (found[i] - expected[i]);
        norm += expected[i] * expected[i];
    }
    return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

inline double activated(double x, Activation activation) {
    switch (activation) {
        case Activation::none: return x;
        case Activation::relu: return std::max(x, 0.0);
        case Activation::relu6: return std::min(std::max(x, 0.0), 6.0);
        case Activation::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        case Activation::gelu_erf: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
        case Activation::sigmoid: return 1 / (1 + std::exp(-x));
        case Activation::tanh: return std::tanh(x);
        case Activation::silu: return x / (1 + std::exp(-x));
        case Activation::hard_swish: return x * std::min(std::max(x + 3, 0.0), 6.0) / 6;
    }
    return x;
}

class LibrariesOnDevice : public testing::Test {
protected:
    static void SetUpTestSuite() { device_ = first_gpu(reason_); }
    static void TearDownTestSuite() { device_.reset(); }
    void SetUp() override {
        if (!device_) GTEST_SKIP() << reason_;
    }

    /// Values of `extent` as the device will have them, rounded to its type.
    static Values input(const BufferExtent& extent, unsigned seed) {
        std::mt19937 random(seed);
        Values values(static_cast<std::size_t>(extent.elements));
        for (double& value : values) {
            value = extent.type == Type::i8 ? std::uniform_int_distribution<int>(-100, 100)(random)
                                            : std::uniform_real_distribution<double>(-1, 1)(random);
        }
        return decode(extent.type, encode(extent.type, values));
    }

    /// Runs a call as it is and from a recorded graph, in exactly the workspace that it asks for. `outputs` are replaced by what the device has
    /// there.
    static void run(LibraryCall& call, const std::vector<BufferExtent>& extents, const std::vector<std::vector<std::byte>>& contents,
                    const std::vector<std::size_t>& outputs, const std::function<void(const std::vector<std::vector<std::byte>>&)>& check) {
        const auto stream = device_->create_stream();
        std::vector<Buffer> memory;
        std::vector<std::uint64_t> addresses;
        for (std::size_t i = 0; i < extents.size(); ++i) {
            memory.emplace_back(device_, contents[i].size());
            addresses.push_back(memory.back().get());
        }
        const Buffer workspace(device_, call.workspace_bytes());
        const auto upload = [&] {
            for (std::size_t i = 0; i < extents.size(); ++i) stream->upload(addresses[i], contents[i].data(), contents[i].size());
        };
        const auto compare = [&](const char* how) {
            SCOPED_TRACE(how);
            std::vector<std::vector<std::byte>> results;
            for (const std::size_t output : outputs) {
                results.emplace_back(contents[output].size());
                stream->download(results.back().data(), addresses[output], results.back().size());
            }
            stream->synchronize();
            check(results);
        };
        upload();
        call.run(*stream, addresses, workspace.get());
        compare("enqueued");
        upload();
        stream->synchronize();
        stream->begin_recording();
        call.run(*stream, addresses, workspace.get());
        const auto graph = stream->end_recording();
        stream->launch(*graph);
        compare("recorded");
    }

    /// Makes the call by measuring and again from its choice, and checks both. Says so where the library takes no such specification; `required` ones
    /// must be.
    template <typename Spec>
    static void verify(const Spec& spec, bool required, double limit, const std::function<Values(const std::vector<Values>&)>& reference) {
        SCOPED_TRACE(to_string(spec));
        VendorLibraries second(*device_, false);
        auto call = device_->make(spec);
        if constexpr (std::is_same_v<Spec, ConvolutionSpec>) {
            EXPECT_EQ(device_->takes(spec), call != nullptr);
        }
        if (call == nullptr) {
            EXPECT_FALSE(required) << "no engine takes it";
            std::printf("[not taken] %s\n", to_string(spec).c_str());
            return;
        }
        const auto extents = buffers(spec);
        std::vector<Values> inputs;
        std::vector<std::vector<std::byte>> contents;
        for (std::size_t i = 0; i < extents.size(); ++i) {
            inputs.push_back(input(extents[i], static_cast<unsigned>(i + 1)));
            if constexpr (std::is_same_v<Spec, ConvolutionSpec>) {
                // Sums of products of up to 100 are no halves.
                if (spec.scale && i == 3)
                    std::ranges::transform(inputs.back(), inputs.back().begin(), [](double one) { return std::ldexp(one, -16); });
            }
            contents.push_back(encode(extents[i].type, inputs.back()));
        }
        constexpr bool kAttention = std::is_same_v<Spec, AttentionSpec>;
        const std::size_t output = kAttention ? 3 : 2;
        const Values expected = reference(inputs);
        const auto check = [&](const std::vector<std::vector<std::byte>>& results) {
            EXPECT_LE(relative_error(decode(extents[output].type, results[0]), expected), limit);
        };
        std::printf("[ %s ] %s\n", call->describe().c_str(), to_string(spec).c_str());
        run(*call, extents, contents, {output}, check);
        ASSERT_TRUE(second.add_choices(device_->choices()));
        auto again = second.make(spec);
        ASSERT_NE(again, nullptr) << "a choice was made and is not taken back";
        EXPECT_TRUE(again->choice() == call->choice()) << "another choice";
        EXPECT_EQ(again->workspace_bytes(), call->workspace_bytes());
        run(*again, extents, contents, {output}, check);
    }

    static inline std::shared_ptr<Device> device_;
    static inline std::string reason_;
};

}  // namespace ai_vmm::cuda::test
