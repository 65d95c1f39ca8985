// SPDX-License-Identifier: Apache-2.0
// Matrix products of libraries on a GPU against a plain reference. Skipped, saying so, where there is no GPU.
#include "cuda/libraries_on_device.hpp"

namespace ai_vmm::cuda::test {
namespace {

Values matmul_reference(const MatmulSpec& s, const std::vector<Values>& in) {
    Values d = in[2];
    const Values* bias = s.bias ? &in[3] : nullptr;
    const Values* residual = s.residual ? &in.back() : nullptr;
    for (std::int64_t batch = 0; batch < s.batch; ++batch) {
        for (std::int64_t i = 0; i < s.m; ++i) {
            for (std::int64_t j = 0; j < s.n; ++j) {
                double sum = 0;
                for (std::int64_t k = 0; k < s.k; ++k) {
                    sum +=
                        in[0]
                          [static_cast<std::size_t>(batch * s.batch_stride_a + (s.transpose_a ? k * s.row_stride_a + i : i * s.row_stride_a + k))] *
                        in[1][static_cast<std::size_t>(batch * s.batch_stride_b + (s.transpose_b ? j * s.row_stride_b + k : k * s.row_stride_b + j))];
                }
                const auto at = static_cast<std::size_t>(batch * s.batch_stride_d + i * s.row_stride_d + j);
                double value = s.alpha * sum;
                if (bias != nullptr) value += (*bias)[static_cast<std::size_t>(j)];
                if (residual != nullptr) value += (*residual)[at];
                d[at] = activated(value, s.activation);
            }
        }
    }
    return d;
}

MatmulSpec dense(std::int64_t m, std::int64_t n, std::int64_t k, bool transpose_a, bool transpose_b, Type type, Type result) {
    MatmulSpec s = {.m = m, .n = n, .k = k, .transpose_a = transpose_a, .transpose_b = transpose_b};
    s.row_stride_a = transpose_a ? m : k;
    s.row_stride_b = transpose_b ? k : n;
    s.row_stride_d = n;
    s.batch_stride_a = m * k;
    s.batch_stride_b = k * n;
    s.batch_stride_d = m * n;
    s.type = type;
    s.result = s.bias_type = result;
    return s;
}

class MatmulOnDevice : public LibrariesOnDevice {
protected:
    static void verify(const MatmulSpec& spec, bool required = true) {
        LibrariesOnDevice::verify(spec, required, tolerance(spec.result, spec.tf32),
                                  [&spec](const std::vector<Values>& in) { return matmul_reference(spec, in); });
    }
};

TEST_F(MatmulOnDevice, TransposesInEveryType) {
    for (const Type type : {Type::f32, Type::f16, Type::bf16, Type::f64}) {
        for (const bool transpose_a : {false, true}) {
            for (const bool transpose_b : {false, true}) verify(dense(72, 40, 136, transpose_a, transpose_b, type, type));
        }
    }
    verify(dense(33, 17, 51, false, true, Type::f16, Type::f32));
    verify(dense(33, 17, 51, false, false, Type::f32, Type::f32));  // nothing aligned
}

TEST_F(MatmulOnDevice, Tf32WhereAllowed) {
    MatmulSpec spec = dense(128, 64, 256, false, true, Type::f32, Type::f32);
    spec.tf32 = true;
    verify(spec);
}

TEST_F(MatmulOnDevice, BatchesAndSharedMatrices) {
    for (const Type type : {Type::f32, Type::f16}) {
        MatmulSpec spec = dense(24, 40, 32, false, false, type, type);
        spec.batch = 5;
        verify(spec);
        MatmulSpec shared_b = spec;
        shared_b.batch_stride_b = 0;
        verify(shared_b);
        MatmulSpec shared_a = spec;
        shared_a.batch_stride_a = 0;
        verify(shared_a);
        MatmulSpec interleaved = dense(24, 24, 32, false, true, type, type);  // heads of attention: rows lie apart by all heads
        interleaved.batch = 4;
        interleaved.row_stride_a = interleaved.row_stride_b = 4 * 32;
        interleaved.batch_stride_a = interleaved.batch_stride_b = 32;
        interleaved.alpha = 0.125F;
        verify(interleaved);
    }
}

TEST_F(MatmulOnDevice, BiasResidualAndActivation) {
    for (const Type type : {Type::f32, Type::f16, Type::bf16}) {
        for (const Activation activation : {Activation::none, Activation::relu, Activation::gelu_tanh}) {
            for (const bool bias : {false, true}) {
                for (const bool residual : {false, true}) {
                    MatmulSpec spec = dense(48, 64, 96, false, true, type, type);
                    spec.activation = activation;
                    spec.bias = bias;
                    spec.residual = residual;
                    verify(spec, activation == Activation::none || type != Type::f32);
                }
            }
        }
    }
}

TEST_F(MatmulOnDevice, ResultsRepeat) {
    // Few rows and a long k, which libraries divide among blocks: the parts must be added up in the same order each time.
    struct Case {
        std::int64_t m, n, k;
        Type type, result;
    };
    for (const auto& [m, n, k, type, result] :
         {Case{32, 768, 3072, Type::f16, Type::f32}, Case{32, 768, 3072, Type::f16, Type::f16}, Case{16, 512, 8192, Type::bf16, Type::f32},
          Case{64, 256, 4096, Type::f16, Type::f32}, Case{32, 768, 3072, Type::f32, Type::f32}, Case{197, 768, 3072, Type::f32, Type::f32}}) {
        MatmulSpec spec = dense(m, n, k, false, false, type, result);
        spec.bias = spec.residual = true;
        SCOPED_TRACE(to_string(spec));
        const auto call = device_->make(spec);
        ASSERT_NE(call, nullptr);
        std::printf("[ %s ] %s\n", call->describe().c_str(), to_string(spec).c_str());
        const auto extents = buffers(spec);
        const auto stream = device_->create_stream();
        std::vector<Buffer> memory;
        std::vector<std::uint64_t> addresses;
        for (std::size_t i = 0; i < extents.size(); ++i) {
            const auto content = encode(extents[i].type, input(extents[i], static_cast<unsigned>(i + 1)));
            memory.emplace_back(device_, content.size());
            addresses.push_back(memory.back().get());
            stream->upload(addresses.back(), content.data(), content.size());
            stream->synchronize();
        }
        const Buffer workspace(device_, call->workspace_bytes());
        std::vector<std::byte> first(memory[2].bytes()), again(first.size());
        int differing = 0;
        for (int run = 0; run < 300; ++run) {
            call->run(*stream, addresses, workspace.get());
            auto& result_bytes = run == 0 ? first : again;
            stream->download(result_bytes.data(), addresses[2], result_bytes.size());
            stream->synchronize();
            differing += run != 0 && first != again ? 1 : 0;
        }
        EXPECT_EQ(differing, 0) << call->describe();
    }
}

TEST_F(MatmulOnDevice, OneRow) {
    for (const Type type : {Type::f32, Type::bf16}) {
        MatmulSpec spec = dense(1, 512, 768, false, true, type, type);
        spec.bias = true;
        verify(spec);
    }
}

TEST_F(MatmulOnDevice, Integers) {
    verify(dense(64, 32, 128, false, true, Type::i8, Type::i32));
    verify(dense(64, 32, 128, false, false, Type::i8, Type::i32), false);
    verify(dense(7, 5, 9, false, true, Type::i8, Type::i32), false);
}

TEST_F(MatmulOnDevice, NarrowFloats) {
    const Capabilities& c = device_->capabilities();
    const bool has_f8 = c.compute_major * 10 + c.compute_minor >= 89;
    for (const Type result : {Type::f32, Type::f16, Type::bf16})
        verify(dense(64, 32, 128, false, true, Type::f8e4m3, result), has_f8 && result != Type::f32);
    MatmulSpec spec = dense(64, 32, 128, false, true, Type::f8e4m3, Type::bf16);
    spec.bias = true;
    verify(spec, has_f8);
    verify(dense(64, 32, 128, false, false, Type::f8e4m3, Type::bf16), false);
}

}  // namespace
}  // namespace ai_vmm::cuda::test
