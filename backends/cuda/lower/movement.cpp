// SPDX-License-Identifier: Apache-2.0
/// Operations that move elements without looking at them.
#include <algorithm>

#include "lower/context.hpp"
#include "openvino/op/ops.hpp"

namespace ai_vmm::cuda {
namespace {

void lower_reshape(Context& c) { c.set(0, c.b.reshape(c.in(0), c.out_dims())); }

void lower_transpose(Context& c) {
    std::vector<int> permutation;
    for (std::int64_t d : c.need_integers(1)) permutation.push_back(static_cast<int>(d));
    if (permutation.empty()) {
        for (int d = c.rank(0); d-- > 0;) permutation.push_back(d);
    }
    c.set(0, c.b.transpose(c.in(0), std::move(permutation)));
}

void lower_concat(Context& c) {
    std::vector<ValueId> values;
    for (int k = 0; k < c.inputs(); ++k) values.push_back(c.in(k));
    c.set(0, c.b.concat(values, c.axis(c.as<ov::op::v0::Concat>().get_axis(), c.rank(0))));
}

}  // namespace

void add_movement(Table& t) {
    t["Reshape"] = lower_reshape;
    t["Squeeze"] = lower_reshape;
    t["Unsqueeze"] = lower_reshape;
    t["Transpose"] = lower_transpose;
    t["Concat"] = lower_concat;
}

}  // namespace ai_vmm::cuda
