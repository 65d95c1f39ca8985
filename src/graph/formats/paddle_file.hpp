// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ai_vmm/model.hpp"

namespace ai_vmm::graph {

/// What a PaddlePaddle program says about itself: what its feed and fetch operations name, by their columns.
struct PaddleFile {
    std::vector<TensorInfo> inputs;
    std::vector<TensorInfo> outputs;
    std::vector<std::string> parameters;  ///< persistable variables, which a .pdiparams file holds
};

/// @throws Error(invalid_argument, input) truncated, damaged or without a program.
[[nodiscard]] PaddleFile parse_paddle(std::string_view bytes);

}  // namespace ai_vmm::graph
