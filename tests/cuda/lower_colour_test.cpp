// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "cuda/trial.hpp"

namespace ai_vmm::cuda::test {
namespace {

using namespace ov::op;
using ov::element::f16;
using ov::element::f32;
using ov::element::u8;

template <typename Rgb, typename Bgr>
void planes(Trial& t, const ov::OutputVector& inputs) {
    ov::OutputVector results;
    if (inputs.size() == 1) results = {make<Rgb>(inputs[0]), make<Bgr>(inputs[0])};
    if constexpr (std::is_same_v<Rgb, v8::NV12toRGB>) {
        if (inputs.size() == 2) results = {make<Rgb>(inputs[0], inputs[1]), make<Bgr>(inputs[0], inputs[1])};
    } else {
        if (inputs.size() == 3) results = {make<Rgb>(inputs[0], inputs[1], inputs[2]), make<Bgr>(inputs[0], inputs[1], inputs[2])};
    }
    t.compare(results, 1e-5);
}

TEST(CudaColour, Pictures) {
    for (const auto& type : {u8, f32, f16}) {
        for (const auto& [height, width] : {std::pair<std::size_t, std::size_t>{2, 2}, {6, 10}, {16, 34}}) {
            Trial one("NV12, one plane, " + type.get_type_name());
            planes<v8::NV12toRGB, v8::NV12toBGR>(one, {one.in(type, {2, height / 2 * 3, width, 1}, 0, 255)});
            Trial two("NV12, two planes, " + type.get_type_name());
            planes<v8::NV12toRGB, v8::NV12toBGR>(two,
                                                 {two.in(type, {2, height, width, 1}, 0, 255), two.in(type, {2, height / 2, width / 2, 2}, 0, 255)});
            Trial i420("I420, one plane, " + type.get_type_name());
            planes<v8::I420toRGB, v8::I420toBGR>(i420, {i420.in(type, {2, height / 2 * 3, width, 1}, 0, 255)});
            Trial three("I420, three planes, " + type.get_type_name());
            planes<v8::I420toRGB, v8::I420toBGR>(
                three, {three.in(type, {2, height, width, 1}, 0, 255), three.in(type, {2, height / 2, width / 2, 1}, 0, 255),
                        three.in(type, {2, height / 2, width / 2, 1}, 0, 255)});
        }
    }
}

}  // namespace
}  // namespace ai_vmm::cuda::test
