// SPDX-License-Identifier: Apache-2.0
/// Pictures of luminance and of chrominance at half the resolution, to red, green and blue.
#include "lower/text.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

/// Where U and V of pixel (i1, i2) are.
struct Chrominance {
    std::string u, v;
};

/// U beside V: (N, H/2, W/2, 2), or rows of that behind those of Y.
Chrominance interleaved(Context& c, std::int64_t height) {
    if (c.inputs() == 2) return {"in1(i0, i1 / 2, i2 / 2, 0)", "in1(i0, i1 / 2, i2 / 2, 1)"};
    const std::string row = fmt::format("in0(i0, i1 / 2 + (idx){}, i2 / 2 * 2", height);
    return {row + ", 0)", row + " + 1, 0)"};
}

/// U and V in planes of their own, or one behind the other behind Y, where a row of the input holds two of theirs.
Chrominance planes(Context& c, std::int64_t height, std::int64_t width) {
    if (c.inputs() == 3) return {"in1(i0, i1 / 2, i2 / 2, 0)", "in2(i0, i1 / 2, i2 / 2, 0)"};
    const auto at = [&](std::int64_t first) {
        const std::string e = fmt::format("((i1 / 2) * (idx){} + i2 / 2 + (idx){})", width / 2, first);
        return fmt::format("in0(i0, {0} / (idx){1}, {0} % (idx){1}, 0)", e, width);
    };
    return {at(width * height), at(width * height / 4 * 5)};
}

/// BT.601, as the CPU plugin computes it: products fused with sums, halves to even.
void lower_conversion(Context& c, bool nv12, bool blue_first) {
    const Dims out = c.out_dims();
    const auto [u, v] = nv12 ? interleaved(c, out[1]) : planes(c, out[1], out[2]);
    std::vector<ValueId> inputs;
    for (int k = 0; k < c.inputs(); ++k) inputs.push_back(c.in(k));
    std::string body = fmt::format(
        "const f32 y = timesf((f32)in0(i0, i1, i2, 0) - 16.0f, 1.164f), u = (f32){} - 128.0f, v = (f32){} - 128.0f; const f32 x = i3 == {} ? "
        "fmaf(1.596f, v, y) : i3 == 1 ? fmaf(-0.813f, v, fmaf(-0.391f, u, y)) : fmaf(2.018f, u, y); ",
        u, v, blue_first ? 2 : 0);
    body += fmt::format("return x < 0 ? 0 : x > 255 ? 255 : {};", is_float(c.out_type()) ? "x" : "rintf(x)");
    c.set(0, c.b.compute(c.out_type(), out, inputs, {c.node().get_type_name(), body, 12, {1, 1, 1}, {}}));
}

}  // namespace

void add_colour(Table& t) {
    t["NV12toRGB"] = [](Context& c) { lower_conversion(c, true, false); };
    t["NV12toBGR"] = [](Context& c) { lower_conversion(c, true, true); };
    t["I420toRGB"] = [](Context& c) { lower_conversion(c, false, false); };
    t["I420toBGR"] = [](Context& c) { lower_conversion(c, false, true); };
}

}  // namespace ai_vmm::cuda
