// SPDX-License-Identifier: Apache-2.0
/// Concatenations of channels: what makes a part stores it there.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cuda/library_device.hpp"
#include "cuda/trial.hpp"
#include "lower/lower.hpp"
#include "openvino/runtime/core.hpp"
#include "program/program.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f32;

unsigned seed = 0;

Output convolved(const Output& x, std::size_t channels, std::size_t kernel = 3) {
    const auto w = make<v0::Constant>(spread(f32, {channels, x.get_shape()[1], kernel, kernel}, -0.2, 0.2, ++seed));
    const auto edge = static_cast<std::ptrdiff_t>(kernel / 2);
    const auto y = make<v1::Convolution>(x, w, ov::Strides{1, 1}, ov::CoordinateDiff{edge, edge}, ov::CoordinateDiff{edge, edge}, ov::Strides{1, 1});
    return make<v0::Relu>(make<v1::Add>(y, make<v0::Constant>(spread(f32, {1, channels, 1, 1}, -0.5, 0.5, ++seed))));
}

Output halved(const Output& x) { return make<v1::MaxPool>(x, ov::Strides{2, 2}, ov::Shape{0, 0}, ov::Shape{0, 0}, ov::Shape{2, 2}); }

Output doubled(const Output& x, std::size_t channels) {
    const auto w = make<v0::Constant>(spread(f32, {x.get_shape()[1], channels, 2, 2}, -0.2, 0.2, ++seed));
    return make<v1::ConvolutionBackpropData>(x, w, ov::Strides{2, 2}, ov::CoordinateDiff{0, 0}, ov::CoordinateDiff{0, 0}, ov::Strides{1, 1});
}

struct Outcome {
    std::shared_ptr<LibraryDevice> device = std::make_shared<LibraryDevice>();
    Schedule schedule;
    [[nodiscard]] std::ptrdiff_t copies() const {
        return std::count_if(schedule.steps.begin(), schedule.steps.end(), [](const Step& step) { return step.label.find("Concat") == 0; });
    }
};

/// Runs the network in f16 on a device with libraries and compares with OpenVINO.
Outcome run(const Output& x, const ov::OutputVector& results) {
    const auto model = std::make_shared<ov::Model>(results, ov::ParameterVector{ov::as_type_ptr<v0::Parameter>(x.get_node_shared_ptr())});
    Outcome done;
    {
        const auto program = std::make_shared<const Program>(done.device, lower(with_shapes(*model, {}), {.float_type = Type::f16}),
                                                             std::make_shared<WeightStore>(done.device));
        done.schedule = program->schedule();
        Execution execution(program);
        const ov::Tensor input = spread(f32, x.get_shape(), -1, 1, 7);
        ov::TensorVector out;
        std::vector<void*> pointers;
        for (const Output& result : results) pointers.push_back(out.emplace_back(f32, result.get_shape()).data());
        const std::vector<const void*> inputs{input.data()};
        execution.run(inputs, pointers);
        static ov::Core core;
        auto request = core.compile_model(model, "CPU", ov::hint::inference_precision(f32)).create_infer_request();
        request.set_input_tensor(input);
        request.infer();
        for (std::size_t k = 0; k < out.size(); ++k) {
            const auto *expected = request.get_output_tensor(k).data<float>(), *got = out[k].data<float>();
            double worst = 0;
            for (std::size_t i = 0; i < out[k].get_size(); ++i)
                worst = std::max(worst, static_cast<double>(std::abs(got[i] - expected[i])) / (1 + static_cast<double>(std::abs(expected[i]))));
            EXPECT_LE(worst, 2e-2) << "output " << k << "\n" << print(done.schedule);
        }
    }
    done.device->check();
    EXPECT_EQ(done.device->problems(), std::vector<std::string>{});
    return done;
}

constexpr std::size_t kSize = 96;

TEST(CudaChannels, AnImagesFewChannelsBecomeAVector) {
    const Output plain = std::make_shared<v0::Parameter>(f32, ov::Shape{2, 3, kSize, kSize});
    EXPECT_EQ(run(plain, {convolved(plain, 16, 3)}).device->convolutions.front().channels_in, 3) << "too little to read";
    for (const std::size_t channels : {1, 3, 7, 8}) {
        const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{2, channels, kSize, kSize});
        const Outcome done = run(x, {convolved(x, 16, channels == 1 ? 9 : 7)});
        ASSERT_EQ(done.device->convolutions.size(), 1U);
        EXPECT_EQ(done.device->convolutions.front().channels_in, 8) << channels;
        const auto kernels = std::ranges::count(done.schedule.steps, Step::Kind::kernel, &Step::kind);
        EXPECT_LE(kernels, 2) << "to the library's layout and back\n" << print(done.schedule);
        const bool vectors =
            std::ranges::any_of(done.schedule.kernels, [](const std::string& text) { return text.find("store16(") != std::string::npos; });
        EXPECT_TRUE(vectors) << print(done.schedule);
    }
}

TEST(CudaChannels, WhatLibrariesMakeIsCopied) {
    const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{1, 8, kSize, kSize});
    const Output skip = convolved(x, 32), up = doubled(convolved(halved(skip), 16), 32);
    const Outcome done = run(x, {convolved(make<v0::Concat>(ov::OutputVector{up, skip}, 1), 8)});
    EXPECT_EQ(done.copies(), 1) << "the skip by what pools it\n" << print(done.schedule);
    EXPECT_EQ(done.device->convolutions.size(), 3U);
}

TEST(CudaChannels, WhatReadsEachElementOnceCopiesToo) {
    const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{1, 8, kSize, kSize});
    const auto network = [&](const auto& read, std::size_t channels) {
        const Output skip = convolved(x, channels), deep = convolved(read(skip), 16);
        return ov::OutputVector{convolved(make<v0::Concat>(ov::OutputVector{convolved(x, 32), skip}, 1), 8), deep};
    };
    const auto with = [&](const auto& read, std::size_t channels = 32) { return run(x, network(read, channels)); };
    const Outcome done = with([](const Output& skip) { return halved(skip); });
    EXPECT_EQ(done.copies(), 1) << print(done.schedule);
    const auto averages = [](const Output& skip) {
        return make<v1::AvgPool>(skip, ov::Strides{2, 2}, ov::Shape{0, 0}, ov::Shape{0, 0}, ov::Shape{2, 2}, true);
    };
    EXPECT_EQ(with(averages).copies(), 1);
    EXPECT_EQ(with([](const Output& skip) { return halved(skip); }, 24).copies(), 1);
    // Windows that overlap or leave something out, and pooling that is part of what reads it.
    const auto pooled = [](ov::Strides strides, ov::Shape kernel, std::size_t pad = 0) {
        return [=](const Output& skip) { return make<v1::MaxPool>(skip, strides, ov::Shape{pad, pad}, ov::Shape{pad, pad}, kernel); };
    };
    EXPECT_EQ(with(pooled({2, 2}, {3, 3}, 1)).copies(), 2);
    EXPECT_EQ(with(pooled({2, 2}, {1, 4})).copies(), 2);
    EXPECT_EQ(with(pooled({5, 5}, {5, 5})).copies(), 2);
    EXPECT_EQ(with([](const Output& skip) { return make<v0::Tanh>(halved(skip)); }).copies(), 2);
}

TEST(CudaChannels, AGeneratedConvolutionStoresIntoTheConcatenation) {
    const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{1, 8, kSize, kSize});
    const Output joined = make<v0::Concat>(ov::OutputVector{convolved(x, 32, 1), convolved(x, 32, 1)}, 1);
    const Outcome done = run(x, {convolved(joined, 8)});
    EXPECT_EQ(done.copies(), 0) << print(done.schedule);
    EXPECT_EQ(done.device->convolutions.size(), 1U);
}

TEST(CudaChannels, AnElementwiseKernelDoesSoToo) {
    const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{1, 8, kSize, kSize});
    const Output left = convolved(x, 32), right = make<v0::Tanh>(halved(doubled(convolved(x, 16), 32)));
    const Output joined = make<v0::Concat>(ov::OutputVector{left, right}, 1);
    // What is read often enough to be stored at all.
    const Outcome done = run(x, {convolved(joined, 8), convolved(halved(right), 8), convolved(halved(make<v0::Exp>(right)), 8)});
    EXPECT_EQ(done.copies(), 1) << print(done.schedule);
}

TEST(CudaChannels, WhatOthersReadHasMemoryOfItsOwn) {
    const Output x = std::make_shared<v0::Parameter>(f32, ov::Shape{1, 8, kSize, kSize});
    const Output read = convolved(x, 32, 1), odd = convolved(x, 4, 1), twice = convolved(x, 32, 1);
    const auto join = [](const ov::OutputVector& parts) { return convolved(make<v0::Concat>(parts, 1), 8); };
    const Outcome done = run(x, {join({read, make<v0::Tanh>(read)}), convolved(read, 8),  // another convolution
                                 join({twice, twice})});
    EXPECT_EQ(done.copies(), 4) << print(done.schedule);
    // At addresses that no wide access takes.
    EXPECT_GT(run(x, {join({odd, convolved(x, 32, 1)})}).copies(), 0);
}

}  // namespace
}  // namespace ai_vmm::cuda::test
